ALTER TABLE raw.commitments ADD COLUMN status_since TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN raw.commitments.status_since IS 'Since when the status holds, kept by a trigger; null: always';

CREATE TABLE dossiers.commitment_history (
    tenant_id TEXT COLLATE "C" NOT NULL,
    commitment_id UUID NOT NULL,
    ordinal INTEGER NOT NULL,
    status TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE,
    cause TEXT NOT NULL,
    CONSTRAINT commitment_history_pkey PRIMARY KEY (tenant_id, commitment_id, ordinal),
    CONSTRAINT commitment_history_status_check CHECK (status IN ('pending', 'in_progress', 'completed', 'cancelled', 'overdue')),
    CONSTRAINT commitment_history_cause_check CHECK (cause IN ('source', 'detection'))
);
COMMENT ON TABLE dossiers.commitment_history IS 'Every change of a commitment''s status, kept by triggers';
COMMENT ON COLUMN dossiers.commitment_history.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.commitment_history.commitment_id IS 'The commitment';
COMMENT ON COLUMN dossiers.commitment_history.ordinal IS 'In the order of learning; a later entry outdoes an earlier one';
COMMENT ON COLUMN dossiers.commitment_history.status IS 'The status that it got';
COMMENT ON COLUMN dossiers.commitment_history.valid_from IS 'From when on it holds; null: always';
COMMENT ON COLUMN dossiers.commitment_history.cause IS 'source, or detection: the overdue detection marked it';

CREATE TABLE dossiers.snapshot_days (
    tenant_id TEXT COLLATE "C" NOT NULL,
    day DATE NOT NULL,
    year DATE NOT NULL,
    CONSTRAINT snapshot_days_pkey PRIMARY KEY (tenant_id, day)
);
CREATE INDEX snapshot_days_year_idx ON dossiers.snapshot_days (tenant_id, year, day);
COMMENT ON TABLE dossiers.snapshot_days IS 'The days of which there is a snapshot';
COMMENT ON COLUMN dossiers.snapshot_days.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.snapshot_days.day IS 'The day, as of whose end the snapshot is';
COMMENT ON COLUMN dossiers.snapshot_days.year IS 'The first day of its year';

CREATE TABLE dossiers.snapshot_spans (
    tenant_id TEXT COLLATE "C" NOT NULL,
    dossier_id UUID NOT NULL,
    year DATE NOT NULL,
    first_day DATE NOT NULL,
    last_day DATE NOT NULL,
    total_engagements_365d INTEGER NOT NULL,
    recent_engagements_90d INTEGER NOT NULL,
    latest_engagement_date TIMESTAMP WITH TIME ZONE,
    engagement_frequency_score NUMERIC(5, 2) NOT NULL,
    total_commitments INTEGER NOT NULL,
    active_commitments INTEGER NOT NULL,
    overdue_commitments INTEGER NOT NULL,
    fulfilled_commitments INTEGER NOT NULL,
    upcoming_commitments INTEGER NOT NULL,
    fulfillment_rate INTEGER NOT NULL,
    recency INTEGER NOT NULL,
    overall_score INTEGER,
    band TEXT NOT NULL,
    insufficient_reason TEXT,
    previous_score INTEGER,
    factors JSONB NOT NULL,
    settings_version TEXT NOT NULL,
    CONSTRAINT snapshot_spans_pkey PRIMARY KEY (tenant_id, dossier_id, year, first_day),
    CONSTRAINT snapshot_spans_days_check CHECK (first_day <= last_day AND year <= first_day AND last_day < year + interval '1 year')
)
 PARTITION BY RANGE (year);
CREATE INDEX snapshot_spans_year_idx ON dossiers.snapshot_spans (tenant_id, year);
COMMENT ON TABLE dossiers.snapshot_spans IS 'How daily snapshots are stored: one row per dossier and run of days of a year that are alike; dossiers.daily_snapshots shows the days';
COMMENT ON COLUMN dossiers.snapshot_spans.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.snapshot_spans.dossier_id IS 'The dossier';
COMMENT ON COLUMN dossiers.snapshot_spans.year IS 'The first day of the year that the days are in';
COMMENT ON COLUMN dossiers.snapshot_spans.first_day IS 'The first of the days that are alike';
COMMENT ON COLUMN dossiers.snapshot_spans.last_day IS 'The last of them';
COMMENT ON COLUMN dossiers.snapshot_spans.total_engagements_365d IS 'Engagements in the last 365 days';
COMMENT ON COLUMN dossiers.snapshot_spans.recent_engagements_90d IS 'Engagements in the last 90 days';
COMMENT ON COLUMN dossiers.snapshot_spans.latest_engagement_date IS 'Newest engagement; null if none';
COMMENT ON COLUMN dossiers.snapshot_spans.engagement_frequency_score IS '0-100';
COMMENT ON COLUMN dossiers.snapshot_spans.total_commitments IS 'Commitments that are not cancelled';
COMMENT ON COLUMN dossiers.snapshot_spans.active_commitments IS 'Pending or in progress';
COMMENT ON COLUMN dossiers.snapshot_spans.overdue_commitments IS 'Due before the day, and open';
COMMENT ON COLUMN dossiers.snapshot_spans.fulfilled_commitments IS 'Completed, late or not';
COMMENT ON COLUMN dossiers.snapshot_spans.upcoming_commitments IS 'Open, due from the day to 30 days later';
COMMENT ON COLUMN dossiers.snapshot_spans.fulfillment_rate IS '0-100';
COMMENT ON COLUMN dossiers.snapshot_spans.recency IS '100, 70, 40 or 10 by days since the latest engagement';
COMMENT ON COLUMN dossiers.snapshot_spans.overall_score IS '0-100; null without enough data';
COMMENT ON COLUMN dossiers.snapshot_spans.band IS 'excellent, good, fair, poor or insufficient_data';
COMMENT ON COLUMN dossiers.snapshot_spans.insufficient_reason IS 'What is missing for a score';
COMMENT ON COLUMN dossiers.snapshot_spans.previous_score IS 'The score of the day before the first; null if there was none';
COMMENT ON COLUMN dossiers.snapshot_spans.factors IS 'What happened on the first day: [{factor, count, text, records}]';
COMMENT ON COLUMN dossiers.snapshot_spans.settings_version IS 'The weights and thresholds it was computed with';

CREATE TABLE dossiers.snapshot_marks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    dossier_id UUID NOT NULL,
    since TIMESTAMP WITH TIME ZONE,
    marked_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    taken BOOLEAN DEFAULT false NOT NULL
);
COMMENT ON TABLE dossiers.snapshot_marks IS 'Records that arrived or changed after the snapshots of their days were taken';
COMMENT ON COLUMN dossiers.snapshot_marks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN dossiers.snapshot_marks.dossier_id IS 'Whose snapshots have to be restated';
COMMENT ON COLUMN dossiers.snapshot_marks.since IS 'From which moment on; null: all of them';
COMMENT ON COLUMN dossiers.snapshot_marks.marked_at IS 'When it was marked';
COMMENT ON COLUMN dossiers.snapshot_marks.taken IS 'A restating has begun with it';

CREATE TABLE dossiers.snapshot_chunks (
    backfill_id TEXT NOT NULL,
    first_day DATE NOT NULL,
    last_day DATE NOT NULL,
    written INTEGER NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT snapshot_chunks_pkey PRIMARY KEY (backfill_id, first_day, last_day)
);
COMMENT ON TABLE dossiers.snapshot_chunks IS 'What a backfill has done, so that one that died goes on where it stopped';
COMMENT ON COLUMN dossiers.snapshot_chunks.backfill_id IS 'The first run of the backfill';
COMMENT ON COLUMN dossiers.snapshot_chunks.first_day IS 'The chunk''s first day';
COMMENT ON COLUMN dossiers.snapshot_chunks.last_day IS 'The chunk''s last day';
COMMENT ON COLUMN dossiers.snapshot_chunks.written IS 'Rows that were written or removed';
COMMENT ON COLUMN dossiers.snapshot_chunks.committed_at IS 'When it was done';

-- Every change of a commitment's status is kept in dossiers.commitment_history: those that the source tells (it knows
-- when a commitment was made, completed and cancelled, also when all of it happened between two loads) and those that
-- overdue detection makes. raw.commitments.status_since says since when the present status holds, so that a statistic
-- as of now never looks into the history.

-- The last moment of a day. Where clocks change at midnight it comes twice, or not at all: the first moment of the new
-- day counts. Both functions are inlined where they are used; one that called itself immutable would not be, since adding
-- an interval is not.
CREATE OR REPLACE FUNCTION dossiers.day_end(day date, timezone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN least(
    CAST(day + 1 AS timestamp) AT TIME ZONE timezone,
    (CAST(day + 1 AS timestamp) - interval '1 hour') AT TIME ZONE timezone + interval '1 hour'
) - interval '1 microsecond';

-- The first day by whose end a moment has come; null for null. In an hour that comes twice before midnight it is not the
-- day that the clock shows.
CREATE OR REPLACE FUNCTION dossiers.first_day(moment timestamptz, timezone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST(moment AT TIME ZONE timezone AS date)
    + CASE WHEN moment > dossiers.day_end(CAST(moment AT TIME ZONE timezone AS date), timezone) THEN 1 ELSE 0 END;

-- Since when the status of a new commitment holds, as far as the source tells; null: always. A commitment that arrives
-- as overdue was so from the day after it was due.
CREATE OR REPLACE FUNCTION dossiers.date_new_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status_since := CASE NEW.status
        WHEN 'completed' THEN greatest(NEW.completed_at, NEW.created_at)
        WHEN 'cancelled' THEN greatest(NEW.cancelled_at, NEW.created_at)
        WHEN 'overdue' THEN greatest(
            (SELECT dossiers.day_end(NEW.due_date, t.timezone) + interval '1 microsecond'
            FROM platform.tenants AS t WHERE t.tenant_id = NEW.tenant_id),
            NEW.created_at
        )
        ELSE NEW.created_at END;
    RETURN NEW;
END $$;

-- Since when a changed status holds: what the source says of it, or else the moment at which we learn of it, which is
-- that of the run for one that computes as of a moment, and the tenant's clock for any other change.
CREATE OR REPLACE FUNCTION dossiers.date_changed_status() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told timestamptz := CASE NEW.status
        WHEN 'completed' THEN NEW.completed_at WHEN 'cancelled' THEN NEW.cancelled_at END;
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        IF coalesce(current_setting('dossiers.status_cause', true), '') = 'detection' THEN
            RETURN NEW;
        END IF;
        IF told IS NULL AND NEW.updated_at IS DISTINCT FROM OLD.updated_at THEN
            told := NEW.updated_at;
        END IF;
        IF told IS NULL THEN
            SELECT coalesce(
                CAST(nullif(current_setting('platform.noticed_at', true), '') AS timestamptz), t.clock_at, clock_timestamp()
            ) INTO told
            FROM platform.tenants AS t WHERE t.tenant_id = NEW.tenant_id;
        END IF;
        NEW.status_since := greatest(told, NEW.created_at);
    ELSIF told IS NOT NULL THEN
        NEW.status_since := greatest(told, NEW.created_at);
    ELSIF OLD.status_since IS NOT DISTINCT FROM OLD.created_at THEN
        NEW.status_since := NEW.created_at;
    ELSE
        NEW.status_since := greatest(OLD.status_since, NEW.created_at);
    END IF;
    RETURN NEW;
END $$;

-- What a new commitment's own dates tell of its past, oldest first: it was open; of two ends the earlier one was
-- followed by the present one.
CREATE OR REPLACE FUNCTION dossiers.statuses_told(c raw.commitments)
RETURNS TABLE (ordinal bigint, status text, valid_from timestamptz) LANGUAGE sql STABLE AS $$
    SELECT row_number() OVER (ORDER BY t.place), t.status, t.valid_from
    FROM (VALUES
        (1, 'pending', c.created_at, c.status_since IS DISTINCT FROM c.created_at),
        (2, 'completed', c.completed_at, c.status = 'cancelled' AND c.completed_at < c.status_since
            AND coalesce(c.completed_at > c.created_at, true)),
        (2, 'cancelled', c.cancelled_at, c.status = 'completed' AND c.cancelled_at < c.status_since
            AND coalesce(c.cancelled_at > c.created_at, true)),
        (3, c.status, c.status_since, true)
    ) AS t (place, status, valid_from, told)
    WHERE t.told
$$;

CREATE OR REPLACE FUNCTION dossiers.keep_new_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.commitment_history (tenant_id, commitment_id, ordinal, status, valid_from, cause)
    SELECT n.tenant_id, n.id, t.ordinal, t.status, t.valid_from, 'source'
    FROM new_rows AS n
    CROSS JOIN LATERAL dossiers.statuses_told(CAST(ROW(n.*) AS raw.commitments)) AS t;
    RETURN NULL;
END $$;

-- A change is added; what the source corrects (a date of the present status, or when the commitment was made) is
-- corrected. A later entry counts for more than an earlier one from its valid_from on, so that a completion that was
-- reported late outdoes the mark that was made in the meantime.
CREATE OR REPLACE FUNCTION dossiers.keep_changed_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dossiers.commitment_history AS h USING old_rows AS o
    WHERE h.tenant_id = o.tenant_id AND h.commitment_id = o.id
        AND NOT EXISTS (SELECT FROM new_rows AS n WHERE n.tenant_id = o.tenant_id AND n.id = o.id);
    -- One that got another id is a new one; one that never changed is told anew by its corrected dates.
    INSERT INTO dossiers.commitment_history (tenant_id, commitment_id, ordinal, status, valid_from, cause)
    SELECT n.tenant_id, n.id, t.ordinal, t.status, t.valid_from, 'source'
    FROM new_rows AS n
    LEFT JOIN old_rows AS o ON o.tenant_id = n.tenant_id AND o.id = n.id
    CROSS JOIN LATERAL dossiers.statuses_told(CAST(ROW(n.*) AS raw.commitments)) AS t
    WHERE o.id IS NULL
        OR n.status = o.status AND (n.created_at, n.status_since, n.completed_at, n.cancelled_at)
            IS DISTINCT FROM (o.created_at, o.status_since, o.completed_at, o.cancelled_at)
        AND NOT EXISTS (
            SELECT FROM dossiers.commitment_history AS l
            WHERE l.tenant_id = n.tenant_id AND l.commitment_id = n.id AND l.ordinal > 1
        )
    ON CONFLICT (tenant_id, commitment_id, ordinal) DO UPDATE SET
        status = excluded.status, valid_from = excluded.valid_from, cause = excluded.cause;
    UPDATE dossiers.commitment_history AS h SET valid_from = t.valid_from
    FROM (
        SELECT n.tenant_id, n.id, x.ordinal, x.valid_from
        FROM new_rows AS n
        JOIN old_rows AS o ON o.tenant_id = n.tenant_id AND o.id = n.id
        CROSS JOIN LATERAL (
            SELECT max(l.ordinal) AS ordinal FROM dossiers.commitment_history AS l
            WHERE l.tenant_id = n.tenant_id AND l.commitment_id = n.id
        ) AS last
        CROSS JOIN LATERAL (
            SELECT 1 AS ordinal, n.created_at AS valid_from
            WHERE n.created_at IS DISTINCT FROM o.created_at AND (last.ordinal > 1 OR n.status <> o.status)
            UNION ALL
            SELECT last.ordinal, n.status_since
            WHERE n.status = o.status AND n.status_since IS DISTINCT FROM o.status_since
        ) AS x
    ) AS t
    WHERE h.tenant_id = t.tenant_id AND h.commitment_id = t.id AND h.ordinal = t.ordinal;
    INSERT INTO dossiers.commitment_history (tenant_id, commitment_id, ordinal, status, valid_from, cause)
    SELECT n.tenant_id, n.id, last.ordinal + row_number() OVER (PARTITION BY n.tenant_id, n.id ORDER BY t.place),
        t.status, t.valid_from, coalesce(nullif(current_setting('dossiers.status_cause', true), ''), 'source')
    FROM new_rows AS n
    JOIN old_rows AS o ON o.tenant_id = n.tenant_id AND o.id = n.id AND o.status <> n.status
    CROSS JOIN LATERAL (
        SELECT max(l.ordinal) AS ordinal FROM dossiers.commitment_history AS l
        WHERE l.tenant_id = n.tenant_id AND l.commitment_id = n.id
    ) AS last
    CROSS JOIN LATERAL (VALUES
        (1, 'completed', n.completed_at, n.status = 'cancelled' AND o.status <> 'completed'
            AND n.completed_at < n.status_since AND coalesce(n.completed_at > o.status_since, true)),
        (1, 'cancelled', n.cancelled_at, n.status = 'completed' AND o.status <> 'cancelled'
            AND n.cancelled_at < n.status_since AND coalesce(n.cancelled_at > o.status_since, true)),
        (2, n.status, n.status_since, true)
    ) AS t (place, status, valid_from, told)
    WHERE t.told;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.forget_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dossiers.commitment_history AS h USING old_rows AS o
    WHERE h.tenant_id = o.tenant_id AND h.commitment_id = o.id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.forget_all_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE dossiers.commitment_history;
    RETURN NULL;
END $$;


-- What is loaded already: its own dates tell its past; what overdue detection marked, its events tell.
UPDATE raw.commitments AS c SET status_since = CASE c.status
    WHEN 'completed' THEN greatest(c.completed_at, c.created_at)
    WHEN 'cancelled' THEN greatest(c.cancelled_at, c.created_at)
    WHEN 'overdue' THEN greatest(coalesce(
        (SELECT e.occurred_at FROM platform.events AS e WHERE e.tenant_id = c.tenant_id
            AND e.dedupe_key = concat('commitment_overdue:', c.id, ':', c.due_date)),
        (SELECT dossiers.day_end(c.due_date, t.timezone) + interval '1 microsecond' FROM platform.tenants AS t
            WHERE t.tenant_id = c.tenant_id)
    ), c.created_at)
    ELSE c.created_at END;
INSERT INTO dossiers.commitment_history (tenant_id, commitment_id, ordinal, status, valid_from, cause)
SELECT c.tenant_id, c.id, t.ordinal, t.status, t.valid_from,
    CASE WHEN t.status = 'overdue' AND EXISTS (
        SELECT FROM platform.events AS e WHERE e.tenant_id = c.tenant_id
            AND e.dedupe_key = concat('commitment_overdue:', c.id, ':', c.due_date)
    ) THEN 'detection' ELSE 'source' END
FROM raw.commitments AS c
CROSS JOIN LATERAL dossiers.statuses_told(c) AS t;

CREATE OR REPLACE TRIGGER date_new_status BEFORE INSERT ON raw.commitments
    FOR EACH ROW EXECUTE FUNCTION dossiers.date_new_status();
CREATE OR REPLACE TRIGGER date_changed_status BEFORE UPDATE ON raw.commitments
    FOR EACH ROW WHEN (old.status IS DISTINCT FROM new.status OR old.created_at IS DISTINCT FROM new.created_at
        OR old.completed_at IS DISTINCT FROM new.completed_at OR old.cancelled_at IS DISTINCT FROM new.cancelled_at)
    EXECUTE FUNCTION dossiers.date_changed_status();
CREATE OR REPLACE TRIGGER keep_new_statuses AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.keep_new_statuses();
CREATE OR REPLACE TRIGGER keep_changed_statuses AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.keep_changed_statuses();
CREATE OR REPLACE TRIGGER forget_statuses AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.forget_statuses();
CREATE OR REPLACE TRIGGER forget_all_statuses AFTER TRUNCATE ON raw.commitments
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.forget_all_statuses();

-- The formula: from what is counted to the score, for any moment. Inlined where it is used (a refresh, a day's snapshot),
-- so that there is one definition and no call. The settings come one by one: taken from a row, each use of one would
-- take the row apart. next_step is when recency loses a step by time alone.
CREATE OR REPLACE FUNCTION dossiers.health(
    in_year bigint, total bigint, fulfilled bigint, latest timestamptz, as_of timestamptz,
    weight_engagement numeric, weight_commitment numeric, weight_recency numeric,
    yearly_target integer, min_engagements integer, min_commitments integer,
    fresh_days integer, recent_days integer, distant_days integer,
    fresh_points integer, recent_points integer, distant_points integer, silent_points integer,
    excellent_from integer, good_from integer, fair_from integer
) RETURNS TABLE (
    frequency numeric, rate numeric, recency integer, next_step timestamptz, overall numeric, band text, reason text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT c.frequency, c.rate, c.recency, c.next_step, o.overall,
        CASE WHEN o.overall IS NULL THEN 'insufficient_data'
            WHEN o.overall >= excellent_from THEN 'excellent'
            WHEN o.overall >= good_from THEN 'good'
            WHEN o.overall >= fair_from THEN 'fair'
            ELSE 'poor' END,
        CASE WHEN o.overall IS NULL THEN concat_ws('; ',
            CASE WHEN in_year < min_engagements THEN
                concat('needs ', min_engagements, ' engagement', CASE WHEN min_engagements = 1 THEN '' ELSE 's' END,
                    ' in 365 days, found ', in_year) END,
            CASE WHEN total < min_commitments THEN
                concat('needs ', min_commitments, ' commitment', CASE WHEN min_commitments = 1 THEN '' ELSE 's' END,
                    ', found ', total) END
        ) END
    FROM (
        SELECT
            least(100, round(CAST(100 * in_year AS numeric) / yearly_target, 2)) AS frequency,
            CASE WHEN total = 0 THEN 100 ELSE round(CAST(100 * fulfilled AS numeric) / total) END AS rate,
            -- Elapsed whole days are at most n exactly while less than n + 1 days have passed.
            CASE WHEN as_of < u.fresh_until THEN fresh_points
                WHEN as_of < u.recent_until THEN recent_points
                WHEN as_of < u.distant_until THEN distant_points
                ELSE silent_points END AS recency,
            CASE WHEN as_of < u.fresh_until THEN u.fresh_until
                WHEN as_of < u.recent_until THEN u.recent_until
                WHEN as_of < u.distant_until THEN u.distant_until END AS next_step
        FROM (
            SELECT latest + (fresh_days + 1) * interval '24 hours' AS fresh_until,
                latest + (recent_days + 1) * interval '24 hours' AS recent_until,
                latest + (distant_days + 1) * interval '24 hours' AS distant_until
        ) AS u
        -- Without a fence each use of a value below would compute it again.
        OFFSET '0'
    ) AS c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN in_year >= min_engagements AND total >= min_commitments THEN
            round(weight_engagement * c.frequency + weight_commitment * c.rate + weight_recency * c.recency)
        END AS overall
        OFFSET '0'
    ) AS o
$$;

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
    DELETE FROM dossiers.snapshot_spans AS r USING (
        SELECT s.tenant_id, s.dossier_id, s.year, s.first_day FROM dossiers.snapshot_spans AS s
        JOIN old_rows AS o ON o.tenant_id = s.tenant_id AND o.id = s.dossier_id
        FOR UPDATE OF s SKIP LOCKED
    ) AS free WHERE r.tenant_id = free.tenant_id AND r.dossier_id = free.dossier_id AND r.year = free.year
        AND r.first_day = free.first_day;
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers known', ARRAY[id] FROM old_rows;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.remove_all_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE raw.engagements, raw.commitments, raw.documents,
        dossiers.engagement_stats, dossiers.commitment_stats, dossiers.health_scores, dossiers.relationship_alerts,
        dossiers.snapshot_spans, dossiers.snapshot_days, dossiers.snapshot_marks;
    RETURN NULL;
END $$;

-- Statement triggers that note whose daily snapshots a change of their records has overtaken, and from which moment on:
-- an engagement that is entered a week late, a completion that is reported afterwards, a promise that gets another due
-- date. A change after the newest snapshot leaves no mark, and without any snapshot nothing is looked at.

CREATE OR REPLACE FUNCTION dossiers.newest_snapshot_end(tenant text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (
    SELECT dossiers.day_end(max(d.day), t.timezone)
    FROM platform.tenants AS t
    JOIN dossiers.snapshot_days AS d ON d.tenant_id = t.tenant_id
    WHERE t.tenant_id = tenant
    GROUP BY t.timezone
);

CREATE OR REPLACE FUNCTION dossiers.late_new_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT n.tenant_id, n.dossier_id, min(n.occurred_at) AS since FROM new_rows AS n GROUP BY n.tenant_id, n.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_changed_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT x.tenant_id, x.dossier_id, min(x.since) AS since
        FROM (
            SELECT tenant_id, t.dossier_id, t.since
            FROM old_rows AS o
            FULL JOIN new_rows AS n USING (tenant_id, id)
            CROSS JOIN LATERAL (VALUES (o.dossier_id, o.occurred_at), (n.dossier_id, n.occurred_at))
                AS t (dossier_id, since)
            WHERE (o.dossier_id, o.occurred_at) IS DISTINCT FROM (n.dossier_id, n.occurred_at)
        ) AS x
        WHERE x.dossier_id IS NOT NULL
        GROUP BY x.tenant_id, x.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_deleted_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT o.tenant_id, o.dossier_id, min(o.occurred_at) AS since FROM old_rows AS o GROUP BY o.tenant_id, o.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- A commitment counts from when it was made; one that has always been there changes every day.
CREATE OR REPLACE FUNCTION dossiers.late_new_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT n.tenant_id, n.dossier_id, min(coalesce(n.created_at, '-infinity')) AS since
        FROM new_rows AS n GROUP BY n.tenant_id, n.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- Due dates have no history: another one changes all days since the commitment was made.
CREATE OR REPLACE FUNCTION dossiers.late_changed_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT x.tenant_id, x.dossier_id, min(coalesce(x.since, '-infinity')) AS since
        FROM (
            SELECT tenant_id, t.dossier_id, t.since
            FROM old_rows AS o
            FULL JOIN new_rows AS n USING (tenant_id, id)
            CROSS JOIN LATERAL (VALUES (o.dossier_id, o.created_at), (n.dossier_id, n.created_at))
                AS t (dossier_id, since)
            WHERE (o.dossier_id, o.due_date, o.created_at) IS DISTINCT FROM (n.dossier_id, n.due_date, n.created_at)
            UNION ALL
            SELECT n.tenant_id, n.dossier_id,
                -- The other end is told along with the present one, whether its date is new or was there before. least()
                -- passes over null, which here is the earliest of all.
                CASE WHEN n.status_since IS NOT NULL AND (n.status <> o.status OR o.status_since IS NOT NULL) THEN least(
                    n.status_since,
                    CASE WHEN n.status = o.status THEN o.status_since
                        WHEN n.status = 'cancelled' AND o.status <> 'completed' THEN n.completed_at
                        WHEN n.status = 'completed' AND o.status <> 'cancelled' THEN n.cancelled_at END
                ) END
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE (o.status, o.status_since, o.completed_at, o.cancelled_at)
                IS DISTINCT FROM (n.status, n.status_since, n.completed_at, n.cancelled_at)
        ) AS x
        WHERE x.dossier_id IS NOT NULL
        GROUP BY x.tenant_id, x.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_deleted_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_days) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT o.tenant_id, o.dossier_id, min(coalesce(o.created_at, '-infinity')) AS since
        FROM old_rows AS o GROUP BY o.tenant_id, o.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- A dossier that was opened, closed, or got other settings by its type.
CREATE OR REPLACE FUNCTION dossiers.late_new_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT n.tenant_id, n.id, n.created_at FROM new_rows AS n
    WHERE coalesce(n.created_at, '-infinity') <= dossiers.newest_snapshot_end(n.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_changed_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT tenant_id, id, NULL
    FROM old_rows AS o
    FULL JOIN new_rows AS n USING (tenant_id, id)
    WHERE (o.type, o.created_at, o.name IS NULL) IS DISTINCT FROM (n.type, n.created_at, n.name IS NULL)
        AND dossiers.newest_snapshot_end(tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_deleted_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT o.tenant_id, o.id, NULL FROM old_rows AS o WHERE dossiers.newest_snapshot_end(o.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT d.tenant_id, d.id, NULL FROM raw.dossiers AS d WHERE dossiers.newest_snapshot_end(d.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_moved_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT d.tenant_id, d.id, NULL
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.timezone <> o.timezone
    JOIN raw.dossiers AS d ON d.tenant_id = n.tenant_id
    WHERE dossiers.newest_snapshot_end(d.tenant_id) IS NOT NULL;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.engagements
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_new_engagements();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_engagements();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_deleted_engagements();
CREATE OR REPLACE TRIGGER late_all AFTER TRUNCATE ON raw.engagements
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_all();
CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_new_commitments();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_commitments();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_deleted_commitments();
CREATE OR REPLACE TRIGGER late_all AFTER TRUNCATE ON raw.commitments
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_all();
CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.dossiers
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_new_dossiers();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_dossiers();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_deleted_dossiers();
CREATE OR REPLACE TRIGGER late_moved AFTER UPDATE ON platform.tenants
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_moved_tenants();

-- History: one row per dossier and day of which there is a snapshot. A condition on the day finds its year's spans, one
-- on the dossier its own. previous_score is that of the day before, and factors is what happened on the day.
CREATE OR REPLACE VIEW dossiers.daily_snapshots WITH (security_invoker = true) AS
SELECT
    s.tenant_id, s.dossier_id, d.day,
    s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, s.engagement_frequency_score,
    s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments,
    s.upcoming_commitments, s.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason,
    CASE WHEN d.day = s.first_day THEN s.previous_score ELSE s.overall_score END AS previous_score,
    CASE WHEN d.day = s.first_day THEN s.overall_score - s.previous_score
        WHEN s.overall_score IS NOT NULL THEN 0 END AS score_change,
    CASE WHEN d.day = s.first_day THEN s.factors ELSE '[]' END AS factors,
    s.settings_version
FROM dossiers.snapshot_spans AS s
JOIN dossiers.snapshot_days AS d
    ON d.tenant_id = s.tenant_id AND d.year = s.year AND d.day BETWEEN s.first_day AND s.last_day;

-- How the scores of a group went: one row per tenant, grouping (all, region, bloc, classification, type), value and month,
-- as of the last day of the month of which there is a snapshot.
CREATE OR REPLACE VIEW dossiers.health_trend_by_group WITH (security_invoker = true) AS
SELECT
    e.tenant_id, g.grouping, coalesce(g.value, 'not given') AS value, e.day,
    count(*) AS dossiers, count(s.overall_score) AS scored, round(avg(s.overall_score), 2) AS average_score,
    count(*) FILTER (WHERE s.band = 'excellent') AS excellent,
    count(*) FILTER (WHERE s.band = 'good') AS good,
    count(*) FILTER (WHERE s.band = 'fair') AS fair,
    count(*) FILTER (WHERE s.band = 'poor') AS poor,
    count(*) FILTER (WHERE s.band = 'insufficient_data') AS insufficient_data
FROM (
    SELECT d.tenant_id, d.year, max(d.day) AS day FROM dossiers.snapshot_days AS d
    GROUP BY d.tenant_id, d.year, extract(month FROM d.day)
) AS e
JOIN dossiers.snapshot_spans AS s
    ON s.tenant_id = e.tenant_id AND s.year = e.year AND e.day BETWEEN s.first_day AND s.last_day
JOIN raw.dossiers AS r ON r.tenant_id = s.tenant_id AND r.id = s.dossier_id
CROSS JOIN LATERAL (VALUES
    ('all', 'all'), ('region', r.region), ('bloc', r.bloc), ('classification', r.classification), ('type', r.type)
) AS g (grouping, value)
GROUP BY e.tenant_id, g.grouping, coalesce(g.value, 'not given'), e.day;

-- How long each dossier was in each band: one row per dossier and band; a month counts for the band at its last day of
-- which there is a snapshot.
CREATE OR REPLACE VIEW dossiers.months_in_band WITH (security_invoker = true) AS
SELECT s.tenant_id, s.dossier_id, s.band,
    count(*) FILTER (WHERE d.ends_month) AS months, count(*) AS days
FROM dossiers.snapshot_spans AS s
JOIN (
    SELECT x.tenant_id, x.year, x.day,
        x.day = max(x.day) OVER (PARTITION BY x.tenant_id, x.year, extract(month FROM x.day)) AS ends_month
    FROM dossiers.snapshot_days AS x
) AS d ON d.tenant_id = s.tenant_id AND d.year = s.year AND d.day BETWEEN s.first_day AND s.last_day
GROUP BY s.tenant_id, s.dossier_id, s.band;

-- Whose score moved most between the ends of two days, and what happened in between, each kind of factor added up.
-- Grain: one row per dossier that had a score on both days, the biggest move first.
CREATE OR REPLACE FUNCTION dossiers.score_movers(from_day date, to_day date)
RETURNS TABLE (
    tenant_id text, dossier_id uuid, name text, score_was integer, score_is integer, change integer, factors jsonb
) LANGUAGE sql STABLE AS $$
    SELECT a.tenant_id, a.dossier_id, d.name, a.overall_score, b.overall_score, b.overall_score - a.overall_score, f.factors
    FROM dossiers.daily_snapshots AS a
    JOIN dossiers.daily_snapshots AS b ON b.tenant_id = a.tenant_id AND b.dossier_id = a.dossier_id AND b.day = to_day
    JOIN raw.dossiers AS d ON d.tenant_id = a.tenant_id AND d.id = a.dossier_id
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(x.factor, x.amount), '{}') AS factors
        FROM (
            SELECT i.factor, sum(i.count) AS amount
            FROM dossiers.snapshot_spans AS s
            CROSS JOIN LATERAL jsonb_to_recordset(s.factors) AS i (factor text, count integer)
            WHERE s.tenant_id = a.tenant_id AND s.dossier_id = a.dossier_id
                AND s.year BETWEEN date_trunc('year', CAST(from_day AS timestamp)) AND CAST(to_day AS timestamp)
                AND s.first_day > from_day AND s.first_day <= to_day
            GROUP BY i.factor
        ) AS x
    ) AS f
    WHERE a.day = from_day AND a.overall_score <> b.overall_score
    ORDER BY abs(b.overall_score - a.overall_score) DESC, d.name, a.dossier_id
$$;
