//! The Publish API of iot-data over HTTP, as aws-sdk-iotdataplane calls it. The response 200 means
//! that the broker has the message.

mod pending;
mod publisher;
mod request;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    select,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use self::{
    publisher::{Publication, Publisher},
    request::{ErrorResponse, MAX_PAYLOAD_BYTES, Parameters, validate_topic},
};
use crate::{DISCONNECT_GRACE, SHUTDOWN_GRACE, counters::Counters, mqtt::BrokerAddress};

#[derive(Clone)]
struct Service {
    publisher: Publisher,
    counters: Arc<Counters>,
    ready: watch::Receiver<bool>,
}

/// A server that is bound and does not serve yet.
pub(crate) struct IotDataServer {
    listener: TcpListener,
    service: Service,
    connection: JoinSet<()>,
}

impl IotDataServer {
    /// Binds to `address` and starts to connect to the broker. `GET /ping` reports the value of
    /// `ready`.
    ///
    /// # Errors
    ///
    /// If the address is in use.
    pub(crate) async fn bind(
        address: SocketAddr,
        broker: &BrokerAddress,
        counters: Arc<Counters>,
        ready: watch::Receiver<bool>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (publisher, connection) = Publisher::new(broker);
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { listener, service: Service { publisher, counters, ready }, connection: tasks })
    }

    /// Returns the address of the listener.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns whether the broker is connected.
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.service.publisher.connected()
    }

    /// Serves until `shutdown`; then finishes open requests, for a few seconds.
    pub(crate) async fn serve(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let stopped = shutdown.clone().cancelled_owned();
        let server =
            axum::serve(self.listener, routes(self.service)).with_graceful_shutdown(stopped);
        let too_late = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        select! {
            result = server => result.context("iot-data's server failed")?,
            () = too_late => warn!("iot-data requests did not finish in time"),
        }
        // The last publisher is dropped with the routes, which ends the connection.
        let closed = async { while self.connection.join_next().await.is_some() {} };
        let _ = timeout(DISCONNECT_GRACE, closed).await;
        Ok(())
    }
}

fn routes(service: Service) -> Router {
    Router::new()
        .route("/topics/{*topic}", post(publish))
        .route("/topics/", post(publish_without_topic))
        .route("/ping", get(ping))
        .method_not_allowed_fallback(async || ErrorResponse::unknown_method())
        .fallback(async || ErrorResponse::unknown_path())
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .with_state(service)
}

async fn publish(
    State(service): State<Service>,
    topic: Result<Path<String>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    payload: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ErrorResponse> {
    let Path(topic) = topic.map_err(|rejection| ErrorResponse::invalid(rejection.body_text()))?;
    validate_topic(&topic)?;
    let Query(parameters) =
        parameters.map_err(|rejection| ErrorResponse::invalid(rejection.body_text()))?;
    let payload = payload.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorResponse::too_large(),
        _ => ErrorResponse::invalid(rejection.body_text()),
    })?;
    let publication =
        Publication { qos: parameters.qos()?, retain: parameters.retain, payload, topic };
    debug!(topic = publication.topic, "publish");
    service.publisher.publish(publication).await.map_err(|error| {
        warn!(%error, "a message was not published");
        ErrorResponse::from(error)
    })?;
    service.counters.published.add(1);
    Ok(Json(json!({ "message": "OK", "traceId": Uuid::new_v4() })))
}

async fn publish_without_topic() -> ErrorResponse {
    validate_topic("").err().unwrap_or_else(ErrorResponse::unknown_path)
}

/// Returns whether the emulator works (200) or not (503), and its counters.
async fn ping(State(service): State<Service>) -> (StatusCode, Json<Value>) {
    let (status, text) = match (*service.ready.borrow(), *service.publisher.connected().borrow()) {
        (true, true) => (StatusCode::OK, "ready"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "no connection to the MQTT broker"),
    };
    (status, Json(json!({ "status": text, "counts": service.counters.snapshot() })))
}
