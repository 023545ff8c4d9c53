-- How often and when each keypair was used last, as the api processes tell it once a minute. Not in the log: it decides
-- nothing, and would be a record for every request.

CREATE TABLE keypair_uses (
    access_key  text PRIMARY KEY,
    last_used   timestamptz NOT NULL,
    num_queries bigint NOT NULL  -- requests, since ever
);
