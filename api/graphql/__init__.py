"""The admin API in GraphQL: what the public client asks at `/admin/gql`.

`routes` takes a request in, `limits` says how large it may be, `schema` puts together what `queries`, `mutations` and
`types` hold. A query reads the projections as far as its caller sees (`api.access.authority.sight`), a mutation is a
command.
"""
