//! Execution of queries, with results in pages.
//!
//! Each query is a thread with a snapshot of the file. It computes a page and waits until the next
//! one is requested, so a result of any length is consistent and takes the memory of one page. A
//! query whose next page is not requested for a while ends.

mod aggregates;
mod budget;
mod catalog;
mod functions;
mod pages;
mod snapshot;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::debug;

pub(crate) use self::pages::Row;
use self::{budget::Budget, pages::Pages, snapshot::Snapshot};
use crate::{
    error::ApiError,
    sql::{OutputColumn, STACK_BYTES},
    store::Store,
};

/// The maximum number of open queries. A further one replaces the query that has been idle longest.
const MAX_OPEN_QUERIES: usize = 32;
/// The time after which an idle query ends. The service waits an hour; here an open snapshot keeps
/// the write-ahead log from being truncated.
const PAGE_IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The time for which the last page can be requested again.
const LAST_PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The open queries.
#[derive(Clone)]
pub(crate) struct Queries {
    store: Arc<Store>,
    /// The time limit of a page.
    timeout: Duration,
    open: Arc<Mutex<HashMap<String, OpenQuery>>>,
}

/// A query that runs, or waits for a request for its next page.
struct OpenQuery {
    text: String,
    requests: mpsc::Sender<Request>,
    budget: Arc<Budget>,
    /// `None` while the query runs.
    idle_since: Option<Instant>,
}

/// A request for a page; 0 is the first.
struct Request {
    page: u64,
    max_rows: Option<usize>,
    reply: oneshot::Sender<Result<PageReply, ApiError>>,
}

/// A page of a result.
#[derive(Debug, Clone)]
pub(crate) struct PageReply {
    pub(crate) query_id: String,
    pub(crate) columns: Arc<[OutputColumn]>,
    pub(crate) rows: Arc<[Row]>,
    /// The size of this page and all before it.
    pub(crate) bytes: u64,
    pub(crate) next_token: Option<String>,
}

impl Queries {
    pub(crate) fn new(store: Arc<Store>, timeout: Duration) -> Self {
        Self { store, timeout, open: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, OpenQuery>> {
        // No code panics between two related changes under the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a query; returns its first page.
    pub(crate) async fn start(
        &self,
        text: String,
        max_rows: Option<usize>,
    ) -> Result<PageReply, ApiError> {
        let id = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
        let (requests, inbox) = mpsc::channel();
        let budget = Arc::new(Budget::new(self.timeout));
        self.evict_idle_query()?;
        let query = OpenQuery {
            text: text.clone(),
            requests: requests.clone(),
            budget: Arc::clone(&budget),
            idle_since: None,
        };
        let mut abandoned = CancelledIfDropped(Some(Arc::clone(&budget)));
        self.open().insert(id.clone(), query);
        let thread = Worker { queries: self.clone(), id: id.clone(), text, budget, inbox };
        std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || thread.run())
            .map_err(|error| ApiError::Internal(Box::new(error)))?;
        let result = request_page(&requests, 0, max_rows).await;
        abandoned.0 = None;
        result
    }

    fn evict_idle_query(&self) -> Result<(), ApiError> {
        let mut open = self.open();
        if open.len() < MAX_OPEN_QUERIES {
            return Ok(());
        }
        let waiting = open.iter().filter_map(|(id, query)| Some((query.idle_since?, id)));
        let (_, longest) = waiting.min().ok_or_else(|| {
            ApiError::Throttling(format!("{MAX_OPEN_QUERIES} queries run already."))
        })?;
        let longest = longest.clone();
        // Its thread ends because its channel of requests is closed.
        open.remove(&longest);
        Ok(())
    }

    /// Returns a later page. `text` must be the text of the query, as in the service.
    pub(crate) async fn resume(
        &self,
        token: &str,
        text: &str,
        max_rows: Option<usize>,
    ) -> Result<PageReply, ApiError> {
        let (id, page) = token.split_once('.').ok_or_else(invalid_token)?;
        let page: u64 = page.parse().map_err(|_| invalid_token())?;
        let requests = {
            let mut open = self.open();
            let query = open.get_mut(id).filter(|query| query.text == text);
            let query = query.ok_or_else(invalid_token)?;
            query.idle_since = None;
            query.requests.clone()
        };
        request_page(&requests, page, max_rows).await
    }

    /// Cancels a query; returns `false` if it is not open.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        match self.open().remove(id) {
            Some(query) => {
                query.budget.cancel();
                true
            }
            None => false,
        }
    }
}

async fn request_page(
    query: &mpsc::Sender<Request>,
    page: u64,
    max_rows: Option<usize>,
) -> Result<PageReply, ApiError> {
    let (reply, result) = oneshot::channel();
    query.send(Request { page, max_rows, reply }).map_err(|_| invalid_token())?;
    result.await.map_err(|_| invalid_token())?
}

/// Cancels a query whose client disconnects before the first page, because no client has its id.
struct CancelledIfDropped(Option<Arc<Budget>>);

impl Drop for CancelledIfDropped {
    fn drop(&mut self) {
        if let Some(budget) = &self.0 {
            budget.cancel();
        }
    }
}

fn invalid_token() -> ApiError {
    ApiError::Validation(
        "Invalid pagination token: it is not of this query, or no longer valid.".to_owned(),
    )
}

/// The thread of a query.
struct Worker {
    queries: Queries,
    id: String,
    text: String,
    budget: Arc<Budget>,
    inbox: mpsc::Receiver<Request>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queries.open().remove(&self.id);
    }
}

impl Worker {
    fn run(self) {
        let Ok(Request { max_rows, reply, .. }) = self.inbox.recv() else { return };
        let mut client = Some(reply);
        if let Err(error) = self.serve(max_rows, &mut client)
            && let Some(client) = client
        {
            // The client may have disconnected.
            let _ = client.send(Err(error));
        }
    }

    /// Serves pages until the last one, or until no page is requested. `client` waits for the next
    /// response.
    fn serve(
        &self,
        max_rows: Option<usize>,
        client: &mut Option<oneshot::Sender<Result<PageReply, ApiError>>>,
    ) -> Result<(), ApiError> {
        let snapshot = Snapshot::take(&self.queries.store, &self.budget)?;
        let translation = snapshot.translate(&self.text)?;
        debug!(sql = translation.sql, "query");
        let mut statement = snapshot.prepare(&translation)?;
        let mut pages = Pages::new(&mut statement, &translation, &self.budget)?;
        let columns: Arc<[OutputColumn]> = translation.columns.clone().into();

        let mut page = pages.first(max_rows)?;
        let mut number = 0;
        loop {
            let next_token = page.more.then(|| format!("{}.{}", self.id, number + 1));
            let reply = PageReply {
                query_id: self.id.clone(),
                columns: Arc::clone(&columns),
                rows: page.rows.clone(),
                bytes: page.cumulative_bytes,
                next_token,
            };
            if !page.more && number == 0 {
                self.result(client.take(), Ok(reply));
                return Ok(());
            }
            self.result(client.take(), Ok(reply.clone()));
            let idle_timeout = if page.more { PAGE_IDLE_TIMEOUT } else { LAST_PAGE_TIMEOUT };
            let Some(next) = self.next_request(number, &reply, page.more, idle_timeout) else {
                return Ok(());
            };
            *client = Some(next.reply);
            self.budget.renew();
            page = pages.next(next.max_rows)?;
            number += 1;
        }
    }

    /// Waits for a request for the page after `number`. Repeats that page meanwhile, for a client
    /// that did not receive it: «Using the same NextToken will return the same set of records».
    fn next_request(
        &self,
        number: u64,
        reply: &PageReply,
        more: bool,
        idle_timeout: Duration,
    ) -> Option<Request> {
        loop {
            let request = self.inbox.recv_timeout(idle_timeout).ok()?;
            if request.page == number + 1 && more {
                return Some(request);
            }
            let again = if request.page == number && number > 0 {
                Ok(reply.clone())
            } else {
                Err(invalid_token())
            };
            self.result(Some(request.reply), again);
        }
    }

    fn result(
        &self,
        client: Option<oneshot::Sender<Result<PageReply, ApiError>>>,
        result: Result<PageReply, ApiError>,
    ) {
        if let Some(query) = self.queries.open().get_mut(&self.id) {
            query.idle_since = Some(Instant::now());
        }
        if let Some(client) = client {
            // The client may have disconnected.
            let _ = client.send(result);
        }
    }
}
