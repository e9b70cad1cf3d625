//! Bodies: how large they may be, and how much of them is held in memory.

use serde::Serialize;

use super::reader::Reader;
use super::value;

/// Limits and buffers of bodies. Sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Body {
    /// The largest request body; zero is no limit. Default 1 MiB.
    pub limit: Option<u64>,
    /// How much of a request body is kept in memory. Default 8 KiB.
    pub request_buffer: Option<u64>,
    /// Whether a request is sent on only when all of it is here. Default true.
    pub request_buffering: Option<bool>,
    /// Whether responses are buffered. Default false.
    pub response_buffering: Option<bool>,
    /// The size of a response's buffer, and the largest response head. Default 4 KiB.
    pub response_buffer: Option<u64>,
    /// How many such buffers a response has. Default 4.
    pub response_buffers: Option<u32>,
    /// How much of a response goes to a file beyond that; zero is nothing. Default 1 GiB.
    pub response_file: Option<u64>,
}

impl Body {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            limit: reader.value("proxy-body-size", value::size),
            request_buffer: reader.value("client-body-buffer-size", value::size),
            request_buffering: reader.value("proxy-request-buffering", value::switch),
            response_buffering: reader.value("proxy-buffering", value::switch),
            response_buffer: reader.value("proxy-buffer-size", value::size),
            response_buffers: reader.value("proxy-buffers-number", value::positive),
            response_file: reader.value("proxy-max-temp-file-size", value::size),
        }
    }
}
