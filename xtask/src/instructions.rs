//! `benches/instructions.json`: what a call of the functions in `benches/instructions.rs` costs, in instructions and in
//! bytes of the heap. Neither depends on how busy the machine is, so another figure is another program.
//!
//! Both are needed: a body of many kilobytes that is copied once more is hardly seen in the instructions. Valgrind
//! counts them in the build that the tests use: an optimized one would take minutes, and what an extra pass over a
//! declaration adds shows in either.
//!
//! It promises that a clean checkout is enough to see a regression, and that figures which have become far too high are
//! noticed as well. It does not promise to tell how long anything takes (`make micro` measures that).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::{Failure, root};

const FILE: &str = "benches/instructions.json";
const FUNCTIONS: [&str; 2] = ["rendering", "stamping"];

/// How far a figure may be from the committed one, up or down, in percent. The same build counts the same in every
/// run; on another processor it is up to 0.5 % more or less, since the C library copies memory as the processor likes it.
const TOLERANCE: u64 = 3;

/// What one call costs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: u64,
    heap_bytes: u64,
}

impl Cost {
    fn of(file: &Value, function: &str) -> Option<Self> {
        let figure = |name: &str| file[function][name].as_u64();
        Some(Self { instructions: figure("instructions")?, heap_bytes: figure("heap_bytes")? })
    }

    fn is_like(self, committed: Self) -> bool {
        let like = |now: u64, then: u64| now.abs_diff(then) * 100 <= then * TOLERANCE;
        like(self.instructions, committed.instructions) && like(self.heap_bytes, committed.heap_bytes)
    }

    /// As in `12 instructions (+4.3 %), 34 bytes of the heap (-0.0 %)`.
    fn against(self, committed: Self) -> String {
        let change = |now: u64, then: u64| {
            let tenths = now.abs_diff(then) * 1000 / then.max(1);
            format!("{}{}.{} %", if now < then { '-' } else { '+' }, tenths / 10, tenths % 10)
        };
        let instructions = change(self.instructions, committed.instructions);
        let heap_bytes = change(self.heap_bytes, committed.heap_bytes);
        format!(
            "{} instructions ({instructions}), {} bytes of the heap ({heap_bytes})",
            self.instructions, self.heap_bytes
        )
    }
}

/// Counts, and writes the file anew.
pub(crate) fn write() -> Result<String, Failure> {
    can_count()?;
    let root = root()?;
    let mut file = Map::from_iter([("rustc".to_owned(), rustc()?.into())]);
    for (name, cost) in count(&root)? {
        file.insert(name.to_owned(), json!({"instructions": cost.instructions, "heap_bytes": cost.heap_bytes}));
    }
    let text = serde_json::to_string_pretty(&Value::Object(file))? + "\n";
    fs::write(root.join(FILE), &text)?;
    Ok(format!("{FILE}: {text}"))
}

/// Counts, and fails when a figure is not like the committed one.
///
/// Where there is no valgrind, that is only said; with `CI=true` it is a failure, lest nobody ever notices. Another compiler
/// than that of the committed figures may make other figures: that is said, and is nobody's fault.
pub(crate) fn check() -> Result<String, Failure> {
    let lenient = env::var_os("CI").is_none_or(|ci| ci != "true");
    match can_count() {
        Err(failure) if lenient => return Ok(format!("instructions are not counted: {failure}")),
        possible => possible?,
    }
    let root = root()?;
    let committed = serde_json::from_slice(&fs::read(root.join(FILE))?)?;
    let (list, alike) = compare(&committed, &count(&root)?);
    let (then, now) = (committed["rustc"].as_str().unwrap_or_default(), rustc()?);
    if alike {
        return Ok(format!("instructions are as in {FILE}:\n{list}"));
    }
    let found = format!(
        "instructions are not as in {FILE} (within {TOLERANCE} %; rustc {then} there, {now} here):\n{list}\n\
         where that is meant, run `make count-instructions` and commit it"
    );
    if then == now { Err(found.into()) } else { Ok(found) }
}

/// What was counted, a line for each function, and whether all of it is like what was committed.
fn compare(committed: &Value, counted: &[(&str, Cost)]) -> (String, bool) {
    let mut alike = true;
    let lines = counted.iter().map(|(name, cost)| {
        let then = Cost::of(committed, name);
        alike &= then.is_some_and(|then| cost.is_like(then));
        let told = then.map_or_else(|| "there is no figure".to_owned(), |then| cost.against(then));
        format!("  {name}: {told}")
    });
    let list = lines.collect::<Vec<_>>().join("\n");
    (list, alike)
}

/// The figures are those of one kind of machine.
fn can_count() -> Result<(), Failure> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("that needs Linux on x86_64".into());
    }
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        return Err("that needs valgrind (Debian, Ubuntu: sudo apt-get install valgrind)".into());
    }
    Ok(())
}

/// The compiler's version, such as `1.95.0`.
fn rustc() -> Result<String, Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let told = String::from_utf8(Command::new(rustc).arg("--version").output()?.stdout)?;
    Ok(told.split_whitespace().nth(1).ok_or("rustc does not tell its version")?.to_owned())
}

fn count(root: &Path) -> Result<Vec<(&'static str, Cost)>, Failure> {
    let program = build(root)?;
    let cost = |name| {
        let instructions = one_call("--tool=callgrind", "--callgrind-out-file=/dev/null", &program, name)?;
        let heap_bytes = one_call("--tool=dhat", "--dhat-out-file=/dev/null", &program, name)?;
        Ok((name, Cost { instructions, heap_bytes }))
    };
    FUNCTIONS.into_iter().map(cost).collect()
}

/// The program that calls the functions: of the same profile, features and crates as the tests, so that they share them.
fn build(root: &Path) -> Result<PathBuf, Failure> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(&cargo)
        .args(["bench", "--workspace", "--bench", "instructions", "--profile", "dev", "--no-run", "--locked"])
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the program to count could not be built: see the errors above".into());
    }
    let messages = String::from_utf8(output.stdout)?;
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str().map(PathBuf::from);
        path.filter(|_| message["target"]["name"] == "instructions")
    });
    program.ok_or_else(|| "cargo names no program to count".into())
}

/// What a process that calls a function twice has more than one that calls it once.
fn one_call(tool: &str, no_file: &str, program: &Path, function: &str) -> Result<u64, Failure> {
    let total = |times: &str| -> Result<u64, Failure> {
        let mut valgrind = Command::new("valgrind");
        valgrind.args([tool, no_file]).arg(program).args([function, times]);
        valgrind.env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
        let output = valgrind.output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let total = told.lines().find_map(total_in).filter(|_| output.status.success());
        total.ok_or_else(|| format!("valgrind did not count:\n{told}").into())
    };
    let (once, twice) = (total("1")?, total("2")?);
    twice.checked_sub(once).ok_or_else(|| format!("{function} costs less than nothing").into())
}

/// The total that callgrind or DHAT ends with.
fn total_in(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Collected : ").or_else(|| line.split_once("Total: "))?;
    rest.split_whitespace().next()?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_both_tools_are_read() {
        assert_eq!(total_in("==26324== Collected : 330580"), Some(330_580));
        assert_eq!(total_in("==26603== Total:     1,033,428 bytes in 25 blocks"), Some(1_033_428));
        assert_eq!(total_in("==26324== Events    : Ir"), None);
    }

    #[test]
    fn a_figure_that_is_far_from_the_committed_one_is_seen_in_either_direction() {
        let committed = json!({"stamping": {"instructions": 1000, "heap_bytes": 200}});
        let alike =
            |instructions, heap_bytes| compare(&committed, &[("stamping", Cost { instructions, heap_bytes })]).1;
        assert!(alike(1000, 200) && alike(1030, 194) && alike(970, 206));
        assert!(!alike(1031, 200) && !alike(969, 200) && !alike(1000, 207) && !alike(1000, 193));
        let cost = Cost { instructions: 1043, heap_bytes: 199 };
        let (list, alike) = compare(&committed, &[("stamping", cost), ("rendering", cost)]);
        let stamping = "  stamping: 1043 instructions (+4.3 %), 199 bytes of the heap (-0.5 %)";
        assert_eq!((list, alike), (format!("{stamping}\n  rendering: there is no figure"), false));
    }
}
