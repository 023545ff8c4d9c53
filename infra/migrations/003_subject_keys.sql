-- The keys with which secrets in the log are sealed, one or more for each subject, themselves sealed by the master key.
-- Kept outside the log, so that what the log says about a subject can be made unreadable for ever.

CREATE TABLE subject_keys (
    key_id     uuid PRIMARY KEY,
    subject    text NOT NULL,
    wrapped    text NOT NULL,
    master     text NOT NULL,  -- which master key it is wrapped with: the beginning of that key's hash
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX subject_keys_of_subject ON subject_keys (subject, created_at DESC);
