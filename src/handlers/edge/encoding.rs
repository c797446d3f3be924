//! `Content-Encoding` of requests and `Accept-Encoding`: gzip or nothing.

use axum::http::{HeaderMap, HeaderValue, Response, header};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;

use crate::handlers::problem::{Kind, Problem};

/// Answers below so many bytes are not worth it.
const WORTH_IT: u64 = 1024;

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Makes of both headers what the layers below understand, or refuses the body's encoding.
pub(super) fn negotiate(headers: &mut HeaderMap) -> Result<(), Problem> {
    // A client that takes only codings that we do not have gets none: a 406 would hide that a write was done.
    if takes_gzip(headers) {
        headers.insert(header::ACCEPT_ENCODING, GZIP);
    } else {
        headers.remove(header::ACCEPT_ENCODING);
    }
    let codings: Vec<String> = members(headers, &header::CONTENT_ENCODING).filter(|c| c != "identity").collect();
    match codings.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            headers.remove(header::CONTENT_ENCODING);
        }
        ["gzip" | "x-gzip"] => {
            headers.insert(header::CONTENT_ENCODING, GZIP);
        }
        _ => return Err(Problem::new(Kind::UnsupportedEncoding).detail("send the body as it is, or with one gzip")),
    }
    Ok(())
}

fn members(headers: &HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = String> {
    let texts = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    texts.flat_map(|text| text.split(',')).map(|m| m.trim().to_ascii_lowercase()).filter(|m| !m.is_empty())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    members(headers, &header::ACCEPT_ENCODING).any(|member| {
        let (coding, weight) = member.split_once(';').unwrap_or((&member, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        matches!(coding.trim(), "gzip" | "x-gzip") && weight > 0.0
    })
}

/// Unpacks bodies. What they unpack to counts against the body's limit, as it is read.
pub(super) fn unpack() -> RequestDecompressionLayer {
    RequestDecompressionLayer::new()
}

/// Packs answers, but for streams of events and for what is packed already.
pub(super) fn pack() -> CompressionLayer<impl Predicate> {
    let predicate = SizeAbove::new(WORTH_IT)
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new("application/pdf"))
        .and(NotForContentType::const_new("application/octet-stream"));
    CompressionLayer::new().compress_when(predicate)
}

/// A strong `ETag` is that of the unpacked bytes (RFC 9110 §8.8.1).
pub(super) fn weaken<B>(response: &mut Response<B>) {
    if !response.headers().contains_key(header::CONTENT_ENCODING) {
        return;
    }
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let strong = tag.filter(|tag| tag.starts_with('"'));
    if let Some(weak) = strong.and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok()) {
        response.headers_mut().insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_only_where_it_is_named() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate,x-gzip"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("") && !takes("identity;q=0"));
    }
}
