//! A fake controller and a fake API server, the ports that serve them, and a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use jiff::Timestamp;
use kube::client::Body;
use kube::{Client, Config};
use node_insights::http::engine::{Engine, EngineError, Rows, Start, Work};
use node_insights::http::tls::Certificate;
use node_insights::http::{self, Listener, Port};
use node_insights::kubernetes::access::Access;
use node_insights::registry::operations::{
    Begun, Limits, Operation, OperationHandle, OperationState, Operations,
};
use node_insights::registry::sync::SyncStatus;
use node_insights::telemetry::metrics::{Metrics, PortName};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A token whose owner may do everything.
pub const ADMIN: &str = "admin";
/// A token whose owner may do nothing.
pub const VIEWER: &str = "viewer";

/// The connection limit of a port, where it does not matter.
const CAP: usize = 64;

/// A fake controller with nodes in two pools. Its operations end when the test ends them.
pub struct Controller {
    operations: Operations,
    running: Mutex<BTreeMap<String, OperationHandle>>,
    started: AtomicUsize,
    pub nodes: usize,
}

impl Controller {
    /// How many operations were started.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    /// Takes over an operation, to end it.
    pub fn take(&self, id: &str) -> OperationHandle {
        self.running.lock().unwrap().remove(id).unwrap()
    }

    fn node(number: usize) -> Value {
        let pool = if number.is_multiple_of(2) {
            "master"
        } else {
            "worker"
        };
        json!({"name": format!("node-{number}"), "pool": pool, "message": "x".repeat(500)})
    }
}

impl Engine for Controller {
    fn start(&self, work: Work) -> Result<Start, EngineError> {
        let (kind, pool) = match work {
            Work::Resync => ("resync", None),
            Work::Export => ("export", None),
            Work::Reevaluate { pool } => ("reevaluate", Some(pool)),
        };
        known(pool.as_deref())?;
        match self.operations.begin(kind, pool.as_deref()) {
            Begun::Running(operation) => Ok(Start::Runs(operation)),
            Begun::Started(handle) => {
                self.started.fetch_add(1, Ordering::Relaxed);
                let id = handle.id().to_string();
                let operation = self.operations.show(&id).unwrap();
                self.running.lock().unwrap().insert(id, handle);
                Ok(Start::Begun(operation))
            }
        }
    }

    fn states(&self, pool: Option<&str>) -> Result<Rows, EngineError> {
        known(pool)?;
        let pool = pool.map(str::to_owned);
        let rows = (0..self.nodes).map(Self::node);
        let is_in = move |row: &Value| pool.as_ref().is_none_or(|pool| row["pool"] == **pool);
        Ok(Box::new(rows.filter(is_in)))
    }

    fn state(&self, node: &str) -> Option<Value> {
        let number = node.strip_prefix("node-")?.parse().ok()?;
        (number < self.nodes).then(|| Self::node(number))
    }

    fn pools(&self) -> Rows {
        Box::new([json!({"name": "master"}), json!({"name": "worker"})].into_iter())
    }

    fn queues(&self) -> Rows {
        Box::new([json!({"name": "node_state", "pending": 3})].into_iter())
    }

    fn sync(&self) -> Option<SyncStatus> {
        None
    }
}

fn known(pool: Option<&str>) -> Result<(), EngineError> {
    match pool {
        None | Some("master" | "worker" | "ünïcode & more") => Ok(()),
        Some(name) => Err(EngineError::UnknownPool {
            name: name.to_owned(),
            known: ["master", "worker"].map(str::to_owned).into(),
        }),
    }
}

/// Both ports, and the fakes behind them.
pub struct World {
    pub controller: Arc<Controller>,
    pub operations: Operations,
    pub port: SocketAddr,
    pub debug: SocketAddr,
    pub access: watch::Sender<Option<Arc<Access>>>,
    pub engine: watch::Sender<Option<Arc<dyn Engine>>>,
    pub stop: CancellationToken,
    pub metrics: Arc<Metrics>,
    tasks: [JoinHandle<()>; 2],
}

impl World {
    pub async fn start() -> Self {
        Self::with_nodes(4).await
    }

    pub async fn with_nodes(nodes: usize) -> Self {
        Self::with(nodes, None, CAP).await
    }

    /// With a limit of `cap` connections per port.
    pub async fn with_cap(cap: usize) -> Self {
        Self::with(4, None, cap).await
    }

    /// With HTTPS and this certificate.
    pub async fn secured(certificate: Certificate) -> Self {
        Self::with(4, Some(certificate), CAP).await
    }

    async fn with(nodes: usize, certificate: Option<Certificate>, cap: usize) -> Self {
        let clock = Arc::new(|| Timestamp::from_second(1_700_000_000).unwrap());
        let operations = Operations::new(Limits::default(), clock);
        let controller = Arc::new(Controller {
            operations: operations.clone(),
            running: Mutex::default(),
            started: AtomicUsize::new(0),
            nodes,
        });
        let stop = CancellationToken::new();
        let api_server = listen(api_server()).await;
        let access = Arc::new(Access::new(client(api_server)));
        let (access, current_access) = watch::channel(Some(access));
        let engine: Arc<dyn Engine> = controller.clone();
        let (engine, current_engine) = watch::channel(Some(engine));
        let metrics = Arc::new(Metrics::new().unwrap());
        let open = |name| {
            let anywhere = "127.0.0.1:0".parse().unwrap();
            let listener = Listener::bind(anywhere, name, cap, Arc::clone(&metrics)).unwrap();
            let address = listener.address().unwrap();
            (listener, address)
        };
        let (listener, port) = open(PortName::Metrics);
        let (debug_listener, debug) = open(PortName::Debug);
        let shown = Port {
            metrics: Arc::clone(&metrics),
            operations: operations.clone(),
            engine: current_engine.clone(),
            access: current_access,
        };
        let [one, other] = [stop.clone(), stop.clone()];
        let tasks = [
            tokio::spawn(async move {
                http::serve(listener, certificate, shown, one).await;
            }),
            tokio::spawn(async move {
                http::serve_debug(debug_listener, current_engine, other).await;
            }),
        ];
        Self {
            controller,
            operations,
            port,
            debug,
            access,
            engine,
            stop,
            metrics,
            tasks,
        }
    }

    /// The URL of the port.
    pub fn server(&self) -> String {
        format!("http://{}", self.port)
    }

    /// Sends a request to the port.
    pub async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Response {
        let mut request = request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn send(&self, request: ::http::Request<Body>) -> Response {
        send(self.port, request).await
    }

    pub async fn ask_debug(&self, path: &str) -> Response {
        send(
            self.debug,
            request("GET", path).body(Body::empty()).unwrap(),
        )
        .await
    }

    /// Starts an operation with an authorized token.
    pub async fn begin(&self, path: &str) -> Operation {
        let response = self.ask("POST", path, Some(ADMIN)).await;
        assert_eq!(response.status, 202, "{}", response.text);
        serde_json::from_str(&response.text).unwrap()
    }

    /// Closes both ports, which takes at most a second, or longer on a loaded machine.
    pub async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(20), task)
                .await
                .unwrap()
                .unwrap();
        }
    }

    /// Uses this API server for access reviews from now on.
    pub fn access_by(&self, api_server: SocketAddr) {
        let access = Access::new(client(api_server));
        self.access.send_replace(Some(Arc::new(access)));
    }

    /// The value of a series in `/metrics`, or 0 without one.
    pub fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
        text.lines().find_map(value).unwrap_or(0)
    }

    pub fn state(&self, id: &str) -> OperationState {
        self.operations.show(id).unwrap().state
    }
}

pub fn request(method: &str, path: &str) -> ::http::request::Builder {
    ::http::Request::builder().method(method).uri(path)
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: ::http::HeaderMap,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    /// Checks that it is this error, with a message that contains `hint`.
    pub fn is_error(&self, status: u16, reason: &str, hint: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        let json = self.json();
        assert_eq!(json["reason"], reason, "{json}");
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(hint), "{error}");
    }
}

pub async fn send(address: SocketAddr, request: ::http::Request<Body>) -> Response {
    send_with(&client(address), request).await.unwrap()
}

/// Sends a request; fails without a response.
pub async fn send_with(client: &Client, request: ::http::Request<Body>) -> kube::Result<Response> {
    let response = client.send(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect_bytes().await.unwrap();
    Ok(Response {
        status,
        headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    })
}

/// kube's client, for anything that speaks HTTP at `address`.
pub fn client(address: SocketAddr) -> Client {
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.root_cert = Some(Vec::new());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Serves `router` until the test ends.
pub async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// An address that nothing listens on.
pub async fn closed_port() -> SocketAddr {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    closed.local_addr().unwrap()
}

/// Knows two tokens; the user of one is allowed everything.
fn api_server() -> Router {
    let whose = async |review: Bytes| {
        let review: Value = serde_json::from_slice(&review).unwrap();
        let token = review["spec"]["token"].as_str().unwrap();
        let status = match token {
            ADMIN | VIEWER => json!({"authenticated": true, "user": {"username": token}}),
            _ => json!({"authenticated": false}),
        };
        json!({"metadata": {}, "spec": {}, "status": status}).to_string()
    };
    let may = async |review: Bytes| {
        let review: Value = serde_json::from_slice(&review).unwrap();
        let allowed = review["spec"]["user"] == ADMIN;
        json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}).to_string()
    };
    Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(whose))
        .route(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            post(may),
        )
}
