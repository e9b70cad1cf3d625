//! A request body on its way through a stream.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};

use crate::error::ProxyError;

/// The request body on its way; runs beside the response so that both directions stream.
#[derive(Default)]
pub(super) struct Upload {
    pub done: Cell<bool>,
    pub progress: Cell<u64>,
    pub failed: RefCell<Option<ProxyError>>,
    /// Who waits for the response: its deadline begins when the request is sent.
    pub waiting: RefCell<Option<Waker>>,
}

impl Upload {
    /// Sends `body` to its end; an error is left for whoever waits for the response.
    pub async fn run<B>(&self, mut body: B, mut stream: SendStream<Bytes>)
    where
        B: Body<Data = Bytes, Error = ProxyError> + Unpin,
    {
        match self.pump(&mut body, &mut stream).await {
            Ok(()) => self.done.set(true),
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                stream.send_reset(h2::Reason::CANCEL);
            }
        }
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }

    async fn pump<B>(&self, body: &mut B, stream: &mut SendStream<Bytes>) -> Result<(), ProxyError>
    where
        B: Body<Data = Bytes, Error = ProxyError> + Unpin,
    {
        // An endpoint that resets the stream has said all it wants to in its response: not the
        // upload's error to report.
        while let Some(frame) = next_frame(body).await {
            match frame?.into_data() {
                Ok(data) => {
                    if self.send_data(data, stream).await.is_err() {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = stream.send_trailers(trailers);
                        return Ok(());
                    }
                }
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
        Ok(())
    }

    async fn send_data(
        &self,
        mut data: Bytes,
        stream: &mut SendStream<Bytes>,
    ) -> Result<(), h2::Error> {
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(h2::Reason::CANCEL.into()),
            };
            let piece = data.split_to(room.min(data.len()));
            self.progress.set(self.progress.get() + piece.len() as u64);
            stream.send_data(piece, false)?;
        }
        Ok(())
    }
}

async fn next_frame<B>(body: &mut B) -> Option<Result<Frame<Bytes>, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await
}
