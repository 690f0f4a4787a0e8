CREATE SCHEMA notifications;

CREATE TABLE platform.events (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    type TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    entity_id UUID NOT NULL,
    payload JSONB NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    run_id TEXT,
    dedupe_key TEXT NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT events_tenant_id_dedupe_key_key UNIQUE (tenant_id, dedupe_key)
);
CREATE INDEX events_type_occurred_idx ON platform.events (tenant_id, type, occurred_at);
COMMENT ON TABLE platform.events IS 'What happened, append-only, written in the transaction of the change that it reports';
COMMENT ON COLUMN platform.events.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN platform.events.id IS 'Names it everywhere';
COMMENT ON COLUMN platform.events.type IS 'commitment_overdue, health_score_dropped, ...';
COMMENT ON COLUMN platform.events.entity_type IS 'What it happened to: commitment, dossier, ...';
COMMENT ON COLUMN platform.events.entity_id IS 'Which one';
COMMENT ON COLUMN platform.events.payload IS 'What was so at that moment';
COMMENT ON COLUMN platform.events.occurred_at IS 'As of which moment it happened';
COMMENT ON COLUMN platform.events.recorded_at IS 'When it was written';
COMMENT ON COLUMN platform.events.run_id IS 'The Dagster run';
COMMENT ON COLUMN platform.events.dedupe_key IS 'The same happening is recorded once under it';

CREATE TABLE platform.job_leases (
    tenant_id TEXT COLLATE "C" NOT NULL,
    job TEXT NOT NULL,
    holder TEXT,
    fencing_number BIGINT NOT NULL,
    acquired_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_because TEXT,
    CONSTRAINT job_leases_pkey PRIMARY KEY (tenant_id, job)
);
COMMENT ON TABLE platform.job_leases IS 'Who does which job right now';
COMMENT ON COLUMN platform.job_leases.tenant_id IS 'Whose job; * for one that works for all tenants';
COMMENT ON COLUMN platform.job_leases.job IS 'What is never done twice at once';
COMMENT ON COLUMN platform.job_leases.holder IS 'The run that holds it; null while it is free';
COMMENT ON COLUMN platform.job_leases.fencing_number IS 'One more for each holder; older ones are refused';
COMMENT ON COLUMN platform.job_leases.acquired_at IS 'Since when';
COMMENT ON COLUMN platform.job_leases.expires_at IS 'Until when, unless it is renewed';
COMMENT ON COLUMN platform.job_leases.ended_at IS 'When the last holder let go, or was found dead';
COMMENT ON COLUMN platform.job_leases.ended_because IS 'released, expired or abandoned';

CREATE TABLE platform.audit_log (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    action_type TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    run_id TEXT,
    details JSONB NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_log_job_idx ON platform.audit_log (tenant_id, (details ->> 'job_name'), recorded_at);
CREATE UNIQUE INDEX audit_log_run_idx ON platform.audit_log (tenant_id, run_id) WHERE action_type = 'background_job_execution';
COMMENT ON TABLE platform.audit_log IS 'What was done, by which run, and how it ended';
COMMENT ON COLUMN platform.audit_log.tenant_id IS 'Whose; * for a job that works for all tenants';
COMMENT ON COLUMN platform.audit_log.id IS 'Names it everywhere';
COMMENT ON COLUMN platform.audit_log.action_type IS 'background_job_execution, ...';
COMMENT ON COLUMN platform.audit_log.entity_type IS 'What it was done to';
COMMENT ON COLUMN platform.audit_log.run_id IS 'The Dagster run';
COMMENT ON COLUMN platform.audit_log.details IS 'Of a job: job_name, status, results, execution_time_ms, error';
COMMENT ON COLUMN platform.audit_log.recorded_at IS 'When it was noted';

CREATE TABLE platform.job_alerts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    job TEXT NOT NULL,
    condition TEXT NOT NULL,
    said TEXT NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    cleared_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT job_alerts_pkey PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX job_alerts_open_idx ON platform.job_alerts (tenant_id, job, condition) WHERE cleared_at IS NULL;
COMMENT ON TABLE platform.job_alerts IS 'Troubles of jobs: each is told once until it clears';
COMMENT ON COLUMN platform.job_alerts.tenant_id IS '* for a job that works for all tenants';
COMMENT ON COLUMN platform.job_alerts.id IS 'Names it everywhere';
COMMENT ON COLUMN platform.job_alerts.job IS 'Which job';
COMMENT ON COLUMN platform.job_alerts.condition IS 'failing or missed';
COMMENT ON COLUMN platform.job_alerts.said IS 'In words';
COMMENT ON COLUMN platform.job_alerts.raised_at IS 'When it was noticed';
COMMENT ON COLUMN platform.job_alerts.cleared_at IS 'When it was over; null while it lasts';

CREATE TABLE dossiers.relationship_alerts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    dossier_id UUID NOT NULL,
    kind TEXT NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE NOT NULL,
    cleared_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT relationship_alerts_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT relationship_alerts_kind_check CHECK (kind IN ('health_drop', 'silence'))
);
CREATE UNIQUE INDEX relationship_alerts_open_idx ON dossiers.relationship_alerts (tenant_id, dossier_id, kind) WHERE cleared_at IS NULL;
COMMENT ON TABLE dossiers.relationship_alerts IS 'Troubles of relationships: each is told once, until it is over';
COMMENT ON COLUMN dossiers.relationship_alerts.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.relationship_alerts.id IS 'Names it everywhere';
COMMENT ON COLUMN dossiers.relationship_alerts.dossier_id IS 'The dossier';
COMMENT ON COLUMN dossiers.relationship_alerts.kind IS 'health_drop or silence';
COMMENT ON COLUMN dossiers.relationship_alerts.raised_at IS 'As of which moment it was noticed';
COMMENT ON COLUMN dossiers.relationship_alerts.cleared_at IS 'As of which moment it was over; null while it lasts';

CREATE TABLE notifications.notifications (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    user_id UUID NOT NULL,
    address TEXT,
    kind TEXT NOT NULL,
    urgency SMALLINT NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    metadata JSONB NOT NULL,
    event_id UUID,
    dedupe_key TEXT NOT NULL,
    run_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT notifications_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT notifications_tenant_id_dedupe_key_key UNIQUE (tenant_id, dedupe_key),
    CONSTRAINT notifications_urgency_check CHECK (urgency BETWEEN 1 AND 4),
    CONSTRAINT notifications_created_at_check CHECK (created_at BETWEEN timestamptz '1900-01-01 00:00:00+00' AND timestamptz '2200-01-01 00:00:00+00')
);
CREATE INDEX notifications_unread_idx ON notifications.notifications (tenant_id, user_id, created_at DESC) WHERE read_at IS NULL;
COMMENT ON TABLE notifications.notifications IS 'What each person was told, once per thing: the inbox';
COMMENT ON COLUMN notifications.notifications.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN notifications.notifications.id IS 'Names it everywhere';
COMMENT ON COLUMN notifications.notifications.user_id IS 'Who is told';
COMMENT ON COLUMN notifications.notifications.address IS 'Where to mail it, for somebody who is no user';
COMMENT ON COLUMN notifications.notifications.kind IS 'commitment_overdue, ...; digest: what exceeds a day''s number';
COMMENT ON COLUMN notifications.notifications.urgency IS '1 (most urgent) to 4';
COMMENT ON COLUMN notifications.notifications.title IS 'In one line; the subject of a mail';
COMMENT ON COLUMN notifications.notifications.message IS 'What happened, and what to do';
COMMENT ON COLUMN notifications.notifications.metadata IS 'Ids and figures that it is about';
COMMENT ON COLUMN notifications.notifications.event_id IS 'The event that it tells of';
COMMENT ON COLUMN notifications.notifications.dedupe_key IS 'The same thing is told to a person once under it';
COMMENT ON COLUMN notifications.notifications.run_id IS 'The Dagster run';
COMMENT ON COLUMN notifications.notifications.created_at IS 'When it was recorded';
COMMENT ON COLUMN notifications.notifications.read_at IS 'When the person read it';

CREATE TABLE notifications.deliveries (
    tenant_id TEXT COLLATE "C" NOT NULL,
    notification_id UUID NOT NULL,
    channel TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL,
    claimed_by UUID,
    last_error TEXT,
    provider_id TEXT,
    dedupe_key TEXT NOT NULL,
    day DATE NOT NULL,
    digest_id UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT deliveries_pkey PRIMARY KEY (tenant_id, notification_id, channel),
    CONSTRAINT deliveries_status_check CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'dead'))
);
CREATE INDEX deliveries_dead_idx ON notifications.deliveries (tenant_id, channel) WHERE status = 'dead';
CREATE INDEX deliveries_digest_idx ON notifications.deliveries (tenant_id, digest_id) WHERE digest_id IS NOT NULL;
CREATE INDEX deliveries_due_idx ON notifications.deliveries (channel, next_attempt_at) WHERE status IN ('queued', 'sending', 'failed');
COMMENT ON TABLE notifications.deliveries IS 'The outbox: one row per notification and channel';
COMMENT ON COLUMN notifications.deliveries.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN notifications.deliveries.notification_id IS 'What is delivered';
COMMENT ON COLUMN notifications.deliveries.channel IS 'in_app, email, webhook, ...';
COMMENT ON COLUMN notifications.deliveries.status IS 'queued, sending, sent, failed (tried again) or dead';
COMMENT ON COLUMN notifications.deliveries.attempts IS 'How often it was tried';
COMMENT ON COLUMN notifications.deliveries.next_attempt_at IS 'From when on a worker may take it; while sending, when its worker counts as dead';
COMMENT ON COLUMN notifications.deliveries.claimed_by IS 'The worker that sends it';
COMMENT ON COLUMN notifications.deliveries.last_error IS 'Why the last attempt failed';
COMMENT ON COLUMN notifications.deliveries.provider_id IS 'What the receiver calls it';
COMMENT ON COLUMN notifications.deliveries.dedupe_key IS 'The key that every attempt carries';
COMMENT ON COLUMN notifications.deliveries.day IS 'The person''s own day that the notification counts in';
COMMENT ON COLUMN notifications.deliveries.digest_id IS 'In the inbox: the digest that carries it further, when the day was full';
COMMENT ON COLUMN notifications.deliveries.created_at IS 'When it was planned';
COMMENT ON COLUMN notifications.deliveries.sent_at IS 'When the receiver had taken it';

CREATE TABLE notifications.daily_counts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    user_id UUID NOT NULL,
    day DATE NOT NULL,
    counted INTEGER NOT NULL,
    digest_id UUID,
    CONSTRAINT daily_counts_pkey PRIMARY KEY (tenant_id, user_id, day)
);
COMMENT ON TABLE notifications.daily_counts IS 'How much each person was told each day; the row is the lock that makes the daily number exact';
COMMENT ON COLUMN notifications.daily_counts.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN notifications.daily_counts.user_id IS 'The person';
COMMENT ON COLUMN notifications.daily_counts.day IS 'The person''s own day';
COMMENT ON COLUMN notifications.daily_counts.counted IS 'Notifications of that day';
COMMENT ON COLUMN notifications.daily_counts.digest_id IS 'The open digest that takes what exceeds the day''s number';

CREATE TABLE notifications.unplanned (
    tenant_id TEXT COLLATE "C" NOT NULL,
    notification_id UUID NOT NULL
);
COMMENT ON TABLE notifications.unplanned IS 'Notifications whose deliveries are not decided yet; append-only, taken by whoever plans';
COMMENT ON COLUMN notifications.unplanned.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN notifications.unplanned.notification_id IS 'A notification';

CREATE INDEX commitments_open_due_idx ON raw.commitments (tenant_id, due_date) WHERE status IN ('pending', 'in_progress');

CREATE OR REPLACE FUNCTION dossiers.remove_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM raw.engagements AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.commitments AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.documents AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM dossiers.health_scores AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.health_scores AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    DELETE FROM dossiers.engagement_stats AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.engagement_stats AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    DELETE FROM dossiers.commitment_stats AS r USING (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.commitment_stats AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id;
    DELETE FROM dossiers.relationship_alerts AS r USING (
        SELECT s.tenant_id, s.id FROM dossiers.relationship_alerts AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.id = free.id;
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers known', ARRAY[id] FROM old_rows;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.remove_all_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE raw.engagements, raw.commitments, raw.documents,
        dossiers.engagement_stats, dossiers.commitment_stats, dossiers.health_scores, dossiers.relationship_alerts;
    RETURN NULL;
END $$;

-- Notes every recorded notification as one whose deliveries are still to be decided; a digest is made with its own.
CREATE OR REPLACE FUNCTION notifications.mark_unplanned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notifications.unplanned (tenant_id, notification_id)
    SELECT tenant_id, id FROM new_rows WHERE kind <> 'digest';
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_unplanned AFTER INSERT ON notifications.notifications
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION notifications.mark_unplanned();

-- What an analyst asks about messages. A zone that PostgreSQL does not know (somebody wrote it with psql) must not stop
-- everybody's notifications: the tenant's own, or UTC, stands in for it.
CREATE OR REPLACE FUNCTION notifications.known_zone(name text, otherwise text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM timestamptz 'epoch' AT TIME ZONE name;
    RETURN name;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN CASE WHEN otherwise = name OR otherwise IS NULL THEN 'UTC'
        ELSE notifications.known_zone(otherwise, 'UTC') END;
END $$;

-- The inbox of a person: unread ones newest first. A digest is no news of its own, it only carries what is here.
CREATE OR REPLACE VIEW notifications.inbox WITH (security_invoker = true) AS
SELECT n.tenant_id, n.user_id, n.id, n.kind, n.urgency, n.title, n.message, n.metadata, n.created_at,
    n.read_at IS NOT NULL AS read, n.read_at
FROM notifications.notifications AS n
WHERE n.kind <> 'digest';

-- Why a person did, or did not, get a message. Grain: one row per notification and channel that it might have taken;
-- for one in a digest, the digest's channels.
CREATE OR REPLACE VIEW notifications.delivery_explained WITH (security_invoker = true) AS
SELECT n.tenant_id, n.id AS notification_id, n.user_id, n.kind, n.title, n.created_at, i.day, c.channel,
    d.status, d.attempts, d.next_attempt_at, d.sent_at, d.last_error,
    CASE
        WHEN i.notification_id IS NULL THEN 'recorded; its deliveries are not decided yet'
        WHEN d.status IS NULL AND c.channel = 'email' AND n.address IS NULL AND u.id IS NULL
            THEN 'no mail: the person is not among the users'
        WHEN d.status IS NULL AND c.channel = 'email' AND n.address IS NULL AND u.email IS NULL
            THEN 'no mail: the person has no mail address'
        WHEN d.status IS NULL THEN 'not by this channel: it was not configured when the message was recorded'
        ELSE concat(
            CASE WHEN i.digest_id IS NOT NULL AND c.channel <> 'in_app'
                THEN concat('in the digest of ', i.day, ', because the day''s number was reached: ') END,
            CASE d.status
                WHEN 'sent' THEN concat('sent at ', d.sent_at)
                WHEN 'queued' THEN concat('waits until ', d.next_attempt_at)
                WHEN 'sending' THEN concat('is being sent, attempt ', d.attempts)
                WHEN 'failed' THEN concat('attempt ', d.attempts, ' failed (', d.last_error, '); the next is at ',
                    d.next_attempt_at)
                WHEN 'dead' THEN concat('given up after ', d.attempts,
                    CASE WHEN d.attempts = 1 THEN ' attempt: ' ELSE ' attempts: ' END, d.last_error,
                    '. Replay it when the cause is gone')
            END)
    END AS explanation
FROM notifications.notifications AS n
CROSS JOIN (VALUES ('in_app'), ('email'), ('webhook')) AS c (channel)
LEFT JOIN notifications.deliveries AS i
    ON i.tenant_id = n.tenant_id AND i.notification_id = n.id AND i.channel = 'in_app'
LEFT JOIN notifications.deliveries AS d ON d.tenant_id = n.tenant_id AND d.channel = c.channel
    AND d.notification_id = CASE WHEN c.channel = 'in_app' THEN n.id ELSE coalesce(i.digest_id, n.id) END
LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
WHERE n.kind <> 'digest';
