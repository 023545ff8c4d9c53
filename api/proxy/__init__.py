"""The app proxy: what listens inside a session, in its user's browser. A process of its own, `python -m api.proxy`.

A signed `POST /session/{id}/start-service` at the api gives a token for one app of one session. With it a browser comes
to the proxy (`routes.py`), which makes a *circuit* for the app (`circuits.py`): an origin of its own, either a port of
the proxy's or a name below its domain. A redirect there leaves a cookie, and from then on every connection to that
origin (`traffic.py`) leads through the agent into the kernel (`leading.py`), HTTP and WebSockets alike, for as long as
who opened it would be let in by the api. Apps ask nobody who he is: what is not proven here is open.
"""
