-- What is not a projection: where each projection stands, and which worker owns which shard.

CREATE TABLE checkpoints (
    projection     text   NOT NULL,
    topic          text   NOT NULL,  -- of events, with the prefix
    partition      int    NOT NULL,
    next_offset    bigint NOT NULL,  -- the first that is not folded yet
    command_offset bigint NOT NULL,  -- in the matching commands partition: the first whose outcome is not folded yet
    skipped_types  text[] NOT NULL DEFAULT '{}',  -- events passed over because this version did not know their type
    PRIMARY KEY (projection, topic, partition)
);

CREATE TABLE projection_definitions (
    projection text PRIMARY KEY,
    definition text NOT NULL  -- hash of its tables' columns, keys and indexes, and of its fold's version
);

CREATE TABLE workers (
    worker_id text PRIMARY KEY,
    seen_at   timestamptz NOT NULL
);

CREATE TABLE shard_leases (
    context    text NOT NULL,
    partition  int  NOT NULL,
    worker_id  text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (context, partition)
);
