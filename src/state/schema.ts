// The database's history: migration n brings version n to n + 1. A migration that was released is never edited.

export const migrations: readonly string[] = [
  `
  CREATE TABLE images (
    reference TEXT NOT NULL PRIMARY KEY,      -- full form with its tag or digest
    digest    TEXT NOT NULL,                  -- what the reference last resolved to (a manifest or an image index)
    media_type TEXT NOT NULL,
    size      INTEGER NOT NULL,
    seen_at   INTEGER NOT NULL                -- ms since the epoch
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE contents (
    digest     TEXT NOT NULL PRIMARY KEY,     -- of a file in content/
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    used_at    INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE indexes (
    image   TEXT NOT NULL PRIMARY KEY,        -- manifest digest
    digest  TEXT,                             -- of the index manifest; NULL: asked, and there was none
    format  TEXT,
    source  TEXT NOT NULL,                    -- where it was found or looked for
    found_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE layers (
    digest       TEXT NOT NULL PRIMARY KEY,
    media_type   TEXT NOT NULL,
    size         INTEGER NOT NULL,            -- bytes of the blob
    diff_id      TEXT NOT NULL,
    stream_size  INTEGER NOT NULL,            -- bytes of the layer stream
    index_format TEXT NOT NULL,               -- soci-v1, soci-v2 or node
    index_digest TEXT,
    index_source TEXT NOT NULL,
    reason       TEXT NOT NULL,
    suspect      TEXT,                        -- why the bytes may not be trusted
    used_at      INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mounts (
    id         TEXT NOT NULL PRIMARY KEY,
    dir        TEXT NOT NULL,
    reference  TEXT NOT NULL,
    digest     TEXT NOT NULL,
    transport  TEXT NOT NULL,
    why        TEXT NOT NULL,
    writable   INTEGER NOT NULL,
    upper      TEXT,
    pid        INTEGER NOT NULL,
    pid_start  TEXT NOT NULL,                 -- start time of pid as /proc says, so that a reused number is not taken for it
    boot       TEXT NOT NULL,
    log        TEXT,
    mounted_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mounts_dir ON mounts (dir);

  CREATE TABLE mount_layers (
    mount TEXT NOT NULL REFERENCES mounts (id) ON DELETE CASCADE,
    layer TEXT NOT NULL,
    PRIMARY KEY (mount, layer)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mount_layers_layer ON mount_layers (layer);
  `,
];
