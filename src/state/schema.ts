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
  `
  CREATE TABLE slots (
    slot       INTEGER PRIMARY KEY AUTOINCREMENT, -- names a mounted layer tree, in base 36; never used again
    tree       TEXT NOT NULL UNIQUE,              -- key of its compiled tree in trees/
    layer      TEXT NOT NULL,
    reason     TEXT NOT NULL,                     -- why it is served as it is
    error      TEXT,                              -- what went wrong with it last
    direct     INTEGER NOT NULL DEFAULT 0,        -- what is mounted reads the layer's file itself and needs no process
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX slots_layer ON slots (layer);

  CREATE TABLE layer_sources (
    layer     TEXT NOT NULL,
    reference TEXT NOT NULL,                      -- of an image that has the layer, in full
    used_at   INTEGER NOT NULL,
    PRIMARY KEY (layer, reference)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE snapshots (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- names its directory, in base 36
    key        TEXT NOT NULL UNIQUE,
    parent     INTEGER REFERENCES snapshots (id), -- without ON DELETE: a parent stays while it has children
    kind       TEXT NOT NULL,                     -- view, active or committed
    slot       INTEGER REFERENCES slots (slot),   -- the layer it shows; NULL: it has a directory
    image      TEXT,                              -- reference it was pulled by, where it was told
    layer      TEXT,                              -- digest of the layer, where it was told
    reason     TEXT,                              -- why the layer was left to containerd
    size       INTEGER,                           -- bytes on disk and inodes of a committed directory, once measured
    inodes     INTEGER,
    created_at INTEGER NOT NULL,                  -- ms since the epoch
    updated_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX snapshots_parent ON snapshots (parent);
  CREATE INDEX snapshots_slot ON snapshots (slot);

  CREATE TABLE snapshot_labels (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (snapshot, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX snapshot_labels_name ON snapshot_labels (name, value);

  CREATE TABLE secrets (
    scope   TEXT NOT NULL PRIMARY KEY,            -- registry and repository that it is for
    sealed  BLOB NOT NULL,                        -- encrypted with a key that is not in the state directory
    used_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  ALTER TABLE mounts ADD COLUMN daemon INTEGER NOT NULL DEFAULT 0; -- served by the daemon, which makes it again when it starts
  ALTER TABLE mounts ADD COLUMN error TEXT;                        -- why it could not be made again
  `,
  `
  CREATE TABLE unpack_jobs (
    job        INTEGER PRIMARY KEY AUTOINCREMENT, -- names its folder, in base 36; never used again
    layer      TEXT NOT NULL,
    diff_id    TEXT NOT NULL,
    form       TEXT NOT NULL,                     -- overlay, overlay-user, plain or image
    image      TEXT NOT NULL,                     -- reference of the image that it was begun for
    size       INTEGER NOT NULL,                  -- bytes of the blob
    media_type TEXT NOT NULL,
    state      TEXT NOT NULL,                     -- in_progress, done, claimed, failed, cancelled or expired
    implied    TEXT,                              -- JSON, of a job that is done: the directories it does not describe
    hiding     TEXT,                              -- JSON: those of them that only hide something
    boot       TEXT,                              -- in which its tree was written: after another one it may not be whole
    code       TEXT,                              -- of the error that ended it
    cause      TEXT,                              -- the same in words
    created_at INTEGER NOT NULL,                  -- ms since the epoch
    updated_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX unpack_jobs_layer ON unpack_jobs (layer);

  ALTER TABLE snapshots ADD COLUMN unpacked INTEGER NOT NULL DEFAULT 0; -- peel unpacked it
  ALTER TABLE snapshots ADD COLUMN unsynced TEXT; -- the boot in which it was written, until it is known to be on disk
  `,
  `
  CREATE TABLE ztocs (
    layer     TEXT NOT NULL PRIMARY KEY,
    ztoc      TEXT,                               -- digest of the content that describes it; NULL: none can
    size      INTEGER NOT NULL,                   -- bytes of that content
    span_size INTEGER NOT NULL,                   -- bytes of stream per span that were asked for
    skipped   TEXT                                -- why none can describe it
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX ztocs_ztoc ON ztocs (ztoc);
  `,
  `
  CREATE TABLE image_indexes (
    image    TEXT NOT NULL,                       -- manifest digest
    kind     TEXT NOT NULL,                       -- peel or soci: an image may have one of each
    digest   TEXT,                                -- of the index manifest; NULL: asked, and there was none
    format   TEXT,                                -- peel, soci-v1 or soci-v2
    source   TEXT NOT NULL,                       -- where it was found or looked for
    found_at INTEGER NOT NULL,
    PRIMARY KEY (image, kind)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO image_indexes SELECT image, 'soci', digest, format, source, found_at FROM indexes;
  DROP TABLE indexes;
  `,
  `
  CREATE TABLE profiles (
    image      TEXT NOT NULL,                     -- manifest digest
    layer      TEXT NOT NULL,
    index_id   TEXT NOT NULL,                     -- digest of the index manifest whose spans are counted
    format     TEXT NOT NULL,                     -- of that index: peel, soci-v1 or soci-v2
    span_count INTEGER NOT NULL,                  -- of that index, to tell another one by
    runs       INTEGER NOT NULL,                  -- starts that are merged in it
    spans      TEXT NOT NULL,                     -- JSON: [[span, runs that touched it, mean place in their order], ...]
    source     TEXT NOT NULL,                     -- recorded, or where it was found
    updated_at INTEGER NOT NULL,                  -- ms since the epoch
    PRIMARY KEY (image, layer, index_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE starts (
    id         TEXT NOT NULL PRIMARY KEY,
    reference  TEXT NOT NULL,
    image      TEXT NOT NULL,                     -- manifest digest
    dir        TEXT,                              -- where it was mounted; NULL: a snapshot of containerd
    started_at INTEGER NOT NULL,                  -- ms since the epoch
    trace      TEXT NOT NULL                      -- JSON: what it read, waited for and fetched
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX starts_image ON starts (image, started_at);

  ALTER TABLE mounts ADD COLUMN read_ahead INTEGER NOT NULL DEFAULT 1; -- what is likely to be read next is fetched before it is
  ALTER TABLE mounts ADD COLUMN fill INTEGER NOT NULL DEFAULT 0; -- all of the image is fetched in the end
  `,
  `
  CREATE TABLE connections (
    id        TEXT NOT NULL PRIMARY KEY,          -- names its file descriptors, which outlive the process
    owner     TEXT NOT NULL,                      -- what is served: layers, slot:NUMBER or mount:ID
    boot      TEXT NOT NULL,                      -- a connection ends with it
    tree      TEXT,                               -- which file the kernel knows nodes of; NULL: of the rows in blobs
    flags     INTEGER NOT NULL,                   -- that INIT agreed on; 0: it had not come
    next_node INTEGER NOT NULL                    -- the kernel has never heard of this one and those above it
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE blobs (
    connection TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
    node       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    place      INTEGER NOT NULL,                  -- the slot that it is for, or the device of the image
    layer      TEXT NOT NULL,
    mode       TEXT NOT NULL,                     -- as the kernel has opened it: undecided, plain or passthrough
    backing_id INTEGER NOT NULL,                  -- of passthrough; else 0
    PRIMARY KEY (connection, node)
  ) STRICT, WITHOUT ROWID;
  `,
];
