-- What went wrong in people's clients, as these report it. Not in the log: it decides nothing, and is kept for a while only.

CREATE TABLE error_logs (
    log_id         uuid PRIMARY KEY,
    created_at     timestamptz NOT NULL DEFAULT now(),
    user_id        text NOT NULL,
    severity       text NOT NULL,
    source         text NOT NULL,
    message        text NOT NULL,
    context_lang   text NOT NULL,
    context_env    jsonb NOT NULL,
    request_url    text,
    request_status int,
    traceback      text,
    is_read        boolean NOT NULL DEFAULT false,
    is_cleared     boolean NOT NULL DEFAULT false
);

CREATE INDEX error_logs_of_user ON error_logs (user_id, created_at DESC);
CREATE INDEX error_logs_by_age ON error_logs (created_at DESC);
