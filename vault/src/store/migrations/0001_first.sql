CREATE TABLE settings (
    name  {TEXT} PRIMARY KEY,
    value {TEXT} NOT NULL
);
CREATE TABLE keys (
    id         {TEXT} PRIMARY KEY,
    name       {TEXT} NOT NULL,
    version    BIGINT NOT NULL,
    purpose    {TEXT} NOT NULL,
    algorithm  {TEXT} NOT NULL,
    escrow     {TEXT} NOT NULL,
    state      {TEXT} NOT NULL,
    spki       {BLOB} NOT NULL,
    labels     {TEXT} NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (purpose, name, version)
);
CREATE TABLE accounts (
    name        {TEXT} PRIMARY KEY,
    directory   {TEXT} NOT NULL,
    url         {TEXT},
    status      {TEXT} NOT NULL,
    contacts    {TEXT} NOT NULL,
    next_contacts {TEXT},
    key_id      {TEXT} NOT NULL REFERENCES keys (id),
    next_key_id {TEXT} REFERENCES keys (id),
    eab_kid     {TEXT},
    ca_root_pem {TEXT},
    created_at  BIGINT NOT NULL,
    last_ok_at  BIGINT,
    last_error  {TEXT}
);
CREATE TABLE agents (
    name               {TEXT} PRIMARY KEY,
    status             {TEXT} NOT NULL,
    identity_not_after BIGINT,
    last_seen_at       BIGINT,
    software_version   {TEXT} NOT NULL,
    created_at         BIGINT NOT NULL,
    windows            {TEXT} NOT NULL DEFAULT '[]'
);
CREATE TABLE join_tokens (
    hash       {BLOB} PRIMARY KEY,
    agent      {TEXT} NOT NULL REFERENCES agents (name),
    expires_at BIGINT NOT NULL
);
CREATE TABLE identities (
    serial     {TEXT} PRIMARY KEY,
    spiffe_id  {TEXT} NOT NULL,
    not_after  BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX identities_by_spiffe_id ON identities (spiffe_id);
CREATE TABLE certificates (
    name            {TEXT} PRIMARY KEY,
    account         {TEXT} NOT NULL REFERENCES accounts (name),
    identifiers     {TEXT} NOT NULL,
    challenge       {TEXT} NOT NULL,
    custody         {TEXT} NOT NULL,
    algorithm       {TEXT} NOT NULL,
    profile         {TEXT},
    must_staple     BIGINT NOT NULL,
    tls_use         {TEXT} NOT NULL,
    rotate_key      BIGINT NOT NULL,
    fallback        {TEXT} NOT NULL,
    preferred_chain {TEXT},
    ca_place        BIGINT NOT NULL,
    ca_failures     BIGINT NOT NULL,
    canary          {TEXT},
    status          {TEXT} NOT NULL,
    current_version BIGINT NOT NULL,
    key_id          {TEXT} REFERENCES keys (id),
    renew_at        BIGINT NOT NULL,
    failed_attempts BIGINT NOT NULL,
    last_error      {TEXT},
    created_at      BIGINT NOT NULL,
    windows         {TEXT} NOT NULL DEFAULT '[]',
    requested       BIGINT NOT NULL DEFAULT 0,
    asked_anew      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX certificates_by_renew_at ON certificates (renew_at);
CREATE TABLE certificate_versions (
    certificate {TEXT} NOT NULL REFERENCES certificates (name),
    version     BIGINT NOT NULL,
    account     {TEXT} NOT NULL REFERENCES accounts (name),
    chain_pem   {TEXT} NOT NULL,
    serial      {TEXT} NOT NULL,
    not_before  BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    fingerprint {TEXT} NOT NULL,
    key_id      {TEXT} REFERENCES keys (id),
    issued_at   BIGINT NOT NULL,
    revoked     {TEXT},
    PRIMARY KEY (certificate, version)
);
CREATE TABLE orders (
    id          {TEXT} PRIMARY KEY,
    certificate {TEXT} NOT NULL REFERENCES certificates (name),
    version     BIGINT NOT NULL,
    account     {TEXT} NOT NULL REFERENCES accounts (name),
    state       {TEXT} NOT NULL,
    url         {TEXT},
    csr         {BLOB},
    key_id      {TEXT} REFERENCES keys (id),
    error       {TEXT},
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX one_open_order ON orders (certificate)
    WHERE state <> 'issued' AND state <> 'failed';
CREATE INDEX orders_by_url ON orders (url);
-- What counts against what CAs allow: it outlives what it was for.
CREATE TABLE placements (
    id           {TEXT} PRIMARY KEY,
    order_id     {TEXT} NOT NULL,
    certificate  {TEXT} NOT NULL,
    account      {TEXT} NOT NULL,
    directory    {TEXT} NOT NULL,
    identifiers  {TEXT} NOT NULL,
    kind         {TEXT} NOT NULL,
    state        {TEXT} NOT NULL,
    refused      {TEXT} NOT NULL,
    closed_until BIGINT,
    placed_at    BIGINT NOT NULL,
    changed_at   BIGINT NOT NULL
);
CREATE INDEX placements_by_order ON placements (order_id);
CREATE INDEX placements_by_changed_at ON placements (changed_at);
CREATE TABLE challenges (
    token             {TEXT} PRIMARY KEY,
    order_id          {TEXT} NOT NULL REFERENCES orders (id),
    kind              {TEXT} NOT NULL,
    identifier        {TEXT} NOT NULL,
    key_authorization {TEXT} NOT NULL
);
CREATE INDEX challenges_by_order ON challenges (order_id);
CREATE TABLE deployments (
    certificate  {TEXT} NOT NULL REFERENCES certificates (name),
    agent        {TEXT} NOT NULL REFERENCES agents (name),
    held_version BIGINT NOT NULL,
    status       {TEXT} NOT NULL,
    detail       {TEXT} NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (certificate, agent)
);
CREATE INDEX deployments_by_agent ON deployments (agent);
-- Who is sent which version while a new one is tried; without a row the current one.
CREATE TABLE rollouts (
    certificate {TEXT} PRIMARY KEY REFERENCES certificates (name),
    version     BIGINT NOT NULL,
    base        BIGINT NOT NULL,
    canary      {TEXT},
    state       {TEXT} NOT NULL,
    since       BIGINT NOT NULL,
    detail      {TEXT} NOT NULL,
    revision    BIGINT NOT NULL
);
CREATE TABLE rollout_agents (
    certificate    {TEXT} NOT NULL REFERENCES rollouts (certificate),
    agent          {TEXT} NOT NULL,
    wanted_version BIGINT NOT NULL,
    PRIMARY KEY (certificate, agent)
);
CREATE TABLE backups (
    id              {TEXT} PRIMARY KEY,
    created_at      BIGINT NOT NULL,
    size            BIGINT NOT NULL,
    sha256          {TEXT} NOT NULL,
    counts          {TEXT} NOT NULL,
    kek_check_value {TEXT} NOT NULL,
    audit_sequence  BIGINT NOT NULL,
    audit_head      {TEXT} NOT NULL,
    location        {TEXT} NOT NULL,
    state           {TEXT} NOT NULL
);
CREATE INDEX backups_by_created_at ON backups (created_at);
CREATE TABLE schedules (
    name            {TEXT} PRIMARY KEY,
    holder          {TEXT} NOT NULL,
    held_until      BIGINT NOT NULL,
    last_ok_at      BIGINT,
    failed_attempts BIGINT NOT NULL,
    last_error      {TEXT},
    last_failed_at  BIGINT,
    retry_at        BIGINT,
    unfinished      {TEXT}
);
CREATE TABLE drills (
    id                 {TEXT} PRIMARY KEY,
    started_at         BIGINT NOT NULL,
    recorded_at        BIGINT NOT NULL,
    recorded_by        {TEXT} NOT NULL,
    backup_sha256      {TEXT} NOT NULL,
    backup_created_at  BIGINT,
    ok                 BIGINT NOT NULL,
    checks             {TEXT} NOT NULL,
    keys_proven        BIGINT NOT NULL,
    rto_milliseconds   BIGINT NOT NULL,
    rpo_milliseconds   BIGINT NOT NULL,
    report_json_sha256 {TEXT} NOT NULL,
    report_html_sha256 {TEXT} NOT NULL,
    statement          {TEXT} NOT NULL
);
CREATE INDEX drills_by_recorded_at ON drills (recorded_at);
CREATE TABLE alerts (
    kind    {TEXT} NOT NULL,
    subject {TEXT} NOT NULL,
    detail  {TEXT} NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (subject, kind)
);
-- What is in the DNS for a challenge: there before the record is, and longer.
CREATE TABLE dns_records (
    token      {TEXT} NOT NULL,
    name       {TEXT} NOT NULL,
    zone       {TEXT} NOT NULL,
    value      {TEXT} NOT NULL,
    created_at BIGINT NOT NULL,
    stuck_at   BIGINT,
    PRIMARY KEY (token, name, value)
);
-- What CAs say of when to renew (RFC 9773), of the version that is in force.
CREATE TABLE renewal_info (
    certificate      {TEXT} PRIMARY KEY REFERENCES certificates (name) ON DELETE CASCADE,
    version          BIGINT NOT NULL,
    window_start     BIGINT,
    window_end       BIGINT,
    explanation_url  {TEXT},
    selected_at      BIGINT,
    checked_at       BIGINT,
    next_check_at    BIGINT NOT NULL,
    failures         BIGINT NOT NULL,
    replaces_refused BIGINT NOT NULL
);
-- What CAs say of versions that they have issued, and when they are asked again.
CREATE TABLE revocation_checks (
    certificate   {TEXT} NOT NULL,
    version       BIGINT NOT NULL,
    status        {TEXT} NOT NULL,
    source        {TEXT} NOT NULL,
    detail        {TEXT} NOT NULL,
    checked_at    BIGINT NOT NULL,
    unknown_since BIGINT,
    next_at       BIGINT NOT NULL,
    PRIMARY KEY (certificate, version),
    FOREIGN KEY (certificate, version)
        REFERENCES certificate_versions (certificate, version) ON DELETE CASCADE
);
-- OCSP responses that web servers staple.
CREATE TABLE staples (
    certificate {TEXT} NOT NULL,
    version     BIGINT NOT NULL,
    response    {BLOB} NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    fetched_at  BIGINT NOT NULL,
    PRIMARY KEY (certificate, version),
    FOREIGN KEY (certificate, version)
        REFERENCES certificate_versions (certificate, version) ON DELETE CASCADE
);
