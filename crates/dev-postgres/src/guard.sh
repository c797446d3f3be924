# Runs a server for as long as its owner lives. The owner holds the other end of standard input
# and never writes to it: end of file means that the owner stopped, or died in whatever way.
#
# usage: signal socket-folder throwaway-folder command...
#   signal            the first one to stop the server with: INT (fast) or QUIT (immediate)
#   *-folder          deleted when the server is gone; '' for none
signal=$1 socket_folder=$2 throwaway_folder=$3
shift 3

# What reaches a whole session (a closed terminal, a shutdown) is for the owner and the server.
# The server sets handlers of its own for these.
trap '' HUP INT TERM

# The pipe is kept away from the server, which must not get between the owner and the watcher.
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!

(
    while read -r line <&3; do :; done
    exec 3<&-
    # Told that the server is gone, it takes its nap along. Before this line it has none, and just ends.
    nap=
    trap 'kill -s KILL $nap 2>/dev/null; exit' USR1
    # Again each second: a signal sent before the server set up its handlers is lost.
    seconds=0
    while [ "$seconds" -lt 60 ] && kill -s "$signal" "$server" 2>/dev/null; do
        sleep 1 >/dev/null 2>&1 &
        nap=$!
        wait "$nap"
        seconds=$((seconds + 1))
        [ "$seconds" -lt 15 ] || signal=QUIT
    done
) &
watcher=$!
exec 3<&-

wait "$server"
status=$?
kill -s USR1 "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
for folder in "$socket_folder" "$throwaway_folder"; do
    [ -z "$folder" ] || rm -rf "$folder" 2>/dev/null
done
exit "$status"
