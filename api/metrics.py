"""What the api counts, for Prometheus. No ids in labels."""

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import Scope

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_REQUESTS = Counter("refold_api_requests", "Requests answered.", ["route", "method", "status"])
_SECONDS = Histogram(
    "refold_api_request_seconds",
    "From the request's last byte to the end of its answer.",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
STREAMS = Gauge("refold_api_event_streams", "Event streams that are open.")
SOCKETS = Gauge("refold_api_websockets", "WebSockets that are open.")
GAPS = Counter("refold_api_event_gaps", "Event streams closed because their client was too slow.")
LAG = Gauge("refold_api_tail_lag_records", "Committed records not yet taken in; NaN while the log does not answer.")
PROXY_APPS = Gauge("refold_proxy_apps", "Apps that are open at an app proxy.")
PROXY_CONNECTIONS = Gauge("refold_proxy_connections", "Connections to apps.")
IN_FLIGHT = Gauge("refold_api_appends_in_flight", "Appends not yet answered by the log.")


def observe(scope: Scope, status: int, seconds: float) -> None:
    """One request, counted under its route's template."""
    route = _route(scope)
    method = scope["method"] if scope["method"] in _METHODS else "other"
    _counter(route, method, status).inc()
    if route != "/events/session":
        _histogram(route).observe(seconds)


def observe_socket(scope: Scope, status: int) -> None:
    """One WebSocket: 101 where it was open, and now is not."""
    _counter(_route(scope), "WEBSOCKET", status).inc()


def _route(scope: Scope) -> str:
    route: str | None = getattr(scope.get("route"), "path", None)
    if route is None:  # a plain Starlette route leaves no trace but its endpoint; without parameters its path is it
        return scope["path"] if "endpoint" in scope and not scope.get("path_params") else "unknown"
    return route


@lru_cache(1024)
def _counter(route: str, method: str, status: int) -> Counter:
    return _REQUESTS.labels(route, method, str(status))


@lru_cache(256)
def _histogram(route: str) -> Histogram:
    return _SECONDS.labels(route)
