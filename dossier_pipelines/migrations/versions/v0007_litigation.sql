CREATE SCHEMA litigation;
COMMENT ON COLUMN platform.job_alerts.condition IS 'failing, missed, slow, slower or unreliable';
COMMENT ON TABLE raw.users IS 'The people who own records, and are told';

CREATE TABLE raw.tenants (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    timezone TEXT NOT NULL,
    settings JSONB,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE raw.tenants IS 'The parties that the desk works for, each apart from the others';
COMMENT ON COLUMN raw.tenants.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.tenants.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.tenants.name IS 'Name';
COMMENT ON COLUMN raw.tenants.timezone IS 'IANA time zone in which its days begin and its jobs run';
COMMENT ON COLUMN raw.tenants.settings IS 'What the tenant sets for itself';
COMMENT ON COLUMN raw.tenants.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.tenants.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.tenants.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.courts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    city TEXT,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT courts_pkey PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE raw.courts IS 'Courts and tribunals';
COMMENT ON COLUMN raw.courts.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.courts.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.courts.name IS 'Name';
COMMENT ON COLUMN raw.courts.city IS 'City';
COMMENT ON COLUMN raw.courts.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.courts.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.courts.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.cases (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    case_number TEXT NOT NULL,
    title TEXT,
    status TEXT,
    owner_id UUID,
    assigned_to UUID,
    court_id UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT cases_pkey PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE raw.cases IS 'Cases before courts, and on their way there';
COMMENT ON COLUMN raw.cases.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.cases.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.cases.case_number IS 'Number under which people know it';
COMMENT ON COLUMN raw.cases.title IS 'What it is about';
COMMENT ON COLUMN raw.cases.status IS 'As the source calls it';
COMMENT ON COLUMN raw.cases.owner_id IS 'The user who answers for it';
COMMENT ON COLUMN raw.cases.assigned_to IS 'The advocate';
COMMENT ON COLUMN raw.cases.court_id IS 'The court';
COMMENT ON COLUMN raw.cases.created_at IS 'When it was opened';
COMMENT ON COLUMN raw.cases.closed_at IS 'When it was closed; null while it is active';
COMMENT ON COLUMN raw.cases.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.cases.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.cases.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.tasks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    case_id UUID NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,
    priority TEXT DEFAULT 'medium' NOT NULL,
    assigned_to UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_date TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT tasks_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT tasks_status_check CHECK (status IN ('pending', 'in_progress', 'completed', 'cancelled')),
    CONSTRAINT tasks_priority_check CHECK (priority IN ('low', 'medium', 'high', 'critical'))
);
CREATE INDEX tasks_open_created_idx ON raw.tasks (tenant_id, priority, created_at) WHERE status IN ('pending', 'in_progress');
CREATE INDEX tasks_open_due_idx ON raw.tasks (tenant_id, due_date) WHERE status IN ('pending', 'in_progress');
COMMENT ON TABLE raw.tasks IS 'What has to be done in a case, by when';
COMMENT ON COLUMN raw.tasks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.tasks.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.tasks.case_id IS 'The case';
COMMENT ON COLUMN raw.tasks.title IS 'What has to be done';
COMMENT ON COLUMN raw.tasks.status IS 'pending, in_progress, completed or cancelled';
COMMENT ON COLUMN raw.tasks.priority IS 'low, medium, high or critical';
COMMENT ON COLUMN raw.tasks.assigned_to IS 'The user who does it';
COMMENT ON COLUMN raw.tasks.created_at IS 'When it was set';
COMMENT ON COLUMN raw.tasks.due_date IS 'When it is due; null: never';
COMMENT ON COLUMN raw.tasks.completed_at IS 'When it was done';
COMMENT ON COLUMN raw.tasks.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.tasks.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.tasks.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.hearings (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    case_id UUID NOT NULL,
    court_id UUID,
    hearing_date TIMESTAMP WITH TIME ZONE NOT NULL,
    status TEXT NOT NULL,
    attended BOOLEAN,
    notes TEXT,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT hearings_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT hearings_status_check CHECK (status IN ('scheduled', 'completed', 'adjourned', 'cancelled'))
);
CREATE INDEX hearings_scheduled_idx ON raw.hearings (tenant_id, hearing_date) WHERE status = 'scheduled';
COMMENT ON TABLE raw.hearings IS 'Hearings of cases';
COMMENT ON COLUMN raw.hearings.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.hearings.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.hearings.case_id IS 'The case';
COMMENT ON COLUMN raw.hearings.court_id IS 'The court, where it is not that of the case';
COMMENT ON COLUMN raw.hearings.hearing_date IS 'When it begins';
COMMENT ON COLUMN raw.hearings.status IS 'scheduled, completed, adjourned or cancelled';
COMMENT ON COLUMN raw.hearings.attended IS 'Whether somebody was there for the tenant; null: not known';
COMMENT ON COLUMN raw.hearings.notes IS 'Notes';
COMMENT ON COLUMN raw.hearings.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.hearings.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.hearings.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.case_documents (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    case_id UUID NOT NULL,
    uploaded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT case_documents_pkey PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE raw.case_documents IS 'Documents of a case';
COMMENT ON COLUMN raw.case_documents.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.case_documents.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.case_documents.case_id IS 'The case';
COMMENT ON COLUMN raw.case_documents.uploaded_at IS 'When it was uploaded';
COMMENT ON COLUMN raw.case_documents.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.case_documents.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.case_documents.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE raw.sla_policies (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    priority TEXT NOT NULL,
    hours NUMERIC NOT NULL,
    source_key TEXT,
    extra JSONB,
    source_hash BIGINT,
    CONSTRAINT sla_policies_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT sla_policies_priority_check CHECK (priority IN ('low', 'medium', 'high', 'critical')),
    CONSTRAINT sla_policies_hours_check CHECK (hours > 0)
);
COMMENT ON TABLE raw.sla_policies IS 'Within how many hours a tenant wants tasks of a priority done';
COMMENT ON COLUMN raw.sla_policies.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN raw.sla_policies.id IS 'The source''s id, or a stable UUID made from it';
COMMENT ON COLUMN raw.sla_policies.priority IS 'low, medium, high or critical';
COMMENT ON COLUMN raw.sla_policies.hours IS 'Hours from when the task was set';
COMMENT ON COLUMN raw.sla_policies.source_key IS 'The source''s own id where it is no UUID';
COMMENT ON COLUMN raw.sla_policies.extra IS 'The source''s columns that have no place of their own';
COMMENT ON COLUMN raw.sla_policies.source_hash IS 'Hash of the source row, to tell an unchanged one';

CREATE TABLE litigation.task_marks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    task_id UUID
);
COMMENT ON TABLE litigation.task_marks IS 'Tasks that the next check of service levels has to look at, whatever the time';
COMMENT ON COLUMN litigation.task_marks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.task_marks.task_id IS 'A task that came, changed or is gone; null: all of the tenant';

CREATE TABLE litigation.task_checks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    checked_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT task_checks_pkey PRIMARY KEY (tenant_id)
);
COMMENT ON TABLE litigation.task_checks IS 'How far the check of service levels has come; what is due later is found by its date';
COMMENT ON COLUMN litigation.task_checks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.task_checks.checked_until IS 'As of which moment all tasks are judged';

CREATE TABLE litigation.task_flags (
    tenant_id TEXT COLLATE "C" NOT NULL,
    task_id UUID NOT NULL,
    overdue_since TIMESTAMP WITH TIME ZONE,
    sla_missed_at TIMESTAMP WITH TIME ZONE,
    flagged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT task_flags_pkey PRIMARY KEY (tenant_id, task_id),
    CONSTRAINT task_flags_flagged_check CHECK (overdue_since IS NOT NULL OR sla_missed_at IS NOT NULL)
);
COMMENT ON TABLE litigation.task_flags IS 'The tasks that are overdue or miss their service level now';
COMMENT ON COLUMN litigation.task_flags.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.task_flags.task_id IS 'The task';
COMMENT ON COLUMN litigation.task_flags.overdue_since IS 'The due date that passed, while it is not done; null: not overdue';
COMMENT ON COLUMN litigation.task_flags.sla_missed_at IS 'When the hours of its priority were over, while it is not done';
COMMENT ON COLUMN litigation.task_flags.flagged_at IS 'As of which moment this was found';

CREATE TABLE litigation.task_history (
    tenant_id TEXT COLLATE "C" NOT NULL,
    task_id UUID NOT NULL,
    ordinal INTEGER NOT NULL,
    status TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT task_history_pkey PRIMARY KEY (tenant_id, task_id, ordinal),
    CONSTRAINT task_history_status_check CHECK (status IN ('pending', 'in_progress', 'completed', 'cancelled'))
);
COMMENT ON TABLE litigation.task_history IS 'Every change of a task''s status, kept by triggers';
COMMENT ON COLUMN litigation.task_history.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.task_history.task_id IS 'The task';
COMMENT ON COLUMN litigation.task_history.ordinal IS 'In the order of learning';
COMMENT ON COLUMN litigation.task_history.status IS 'The status that it got';
COMMENT ON COLUMN litigation.task_history.valid_from IS 'From when on it holds';

CREATE TABLE litigation.daily_metrics (
    tenant_id TEXT COLLATE "C" NOT NULL,
    metric TEXT NOT NULL,
    day DATE NOT NULL,
    value DOUBLE PRECISION,
    CONSTRAINT daily_metrics_pkey PRIMARY KEY (tenant_id, day, metric),
    CONSTRAINT daily_metrics_metric_check CHECK (metric IN ('case_count', 'task_completion_rate', 'sla_compliance_rate', 'hearing_attendance_rate', 'document_count', 'overdue_tasks'))
);
COMMENT ON TABLE litigation.daily_metrics IS 'The metrics of every tenant and day';
COMMENT ON COLUMN litigation.daily_metrics.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.daily_metrics.metric IS 'case_count, task_completion_rate, ...';
COMMENT ON COLUMN litigation.daily_metrics.day IS 'The day, in the tenant''s time zone, as of whose end it is';
COMMENT ON COLUMN litigation.daily_metrics.value IS 'A number, or a rate from 0 to 1; null: nothing under the rate';

CREATE TABLE litigation.metric_marks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    since TIMESTAMP WITH TIME ZONE,
    marked_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL
);
COMMENT ON TABLE litigation.metric_marks IS 'Tenants whose daily metrics a change of their records has overtaken; append-only';
COMMENT ON COLUMN litigation.metric_marks.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.metric_marks.since IS 'From when on its records say something else; null: always';
COMMENT ON COLUMN litigation.metric_marks.marked_at IS 'When it was marked';

CREATE TABLE litigation.metric_reach (
    tenant_id TEXT COLLATE "C" NOT NULL,
    newest_day DATE NOT NULL,
    CONSTRAINT metric_reach_pkey PRIMARY KEY (tenant_id)
);
COMMENT ON TABLE litigation.metric_reach IS 'Up to which day metrics go, told before they are taken: what is written then leaves marks';
COMMENT ON COLUMN litigation.metric_reach.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.metric_reach.newest_day IS 'The newest day that has, or gets, its metrics';

CREATE TABLE litigation.anomalies (
    tenant_id TEXT COLLATE "C" NOT NULL,
    metric TEXT NOT NULL,
    day DATE NOT NULL,
    detector TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    expected DOUBLE PRECISION NOT NULL,
    low DOUBLE PRECISION NOT NULL,
    high DOUBLE PRECISION NOT NULL,
    deviation DOUBLE PRECISION NOT NULL,
    records JSONB,
    CONSTRAINT anomalies_pkey PRIMARY KEY (tenant_id, metric, day, detector)
);
COMMENT ON TABLE litigation.anomalies IS 'Days on which a metric was not as it usually is';
COMMENT ON COLUMN litigation.anomalies.tenant_id IS 'Whose row this is';
COMMENT ON COLUMN litigation.anomalies.metric IS 'The metric';
COMMENT ON COLUMN litigation.anomalies.day IS 'The day';
COMMENT ON COLUMN litigation.anomalies.detector IS 'percent_off_mean_7d (the original rule) or weekday_robust';
COMMENT ON COLUMN litigation.anomalies.value IS 'What it was';
COMMENT ON COLUMN litigation.anomalies.expected IS 'What the detector expected';
COMMENT ON COLUMN litigation.anomalies.low IS 'The least that it would have taken for usual';
COMMENT ON COLUMN litigation.anomalies.high IS 'The most';
COMMENT ON COLUMN litigation.anomalies.deviation IS 'Value less expected';
COMMENT ON COLUMN litigation.anomalies.records IS 'What happened on the day: [{record, ids, count}]; robust detector only';

-- When days end is every desk's affair now.
-- When a day ends, and which day a moment belongs to, in a time zone: of every desk that keeps a history.

-- The last moment of a day. Where clocks change at midnight it comes twice, or not at all: the first moment of the new
-- day counts. Both functions are inlined where they are used; one that called itself immutable would not be, since adding
-- an interval is not.
CREATE OR REPLACE FUNCTION platform.day_end(day date, timezone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN least(
    CAST(day + 1 AS timestamp) AT TIME ZONE timezone,
    (CAST(day + 1 AS timestamp) - interval '1 hour') AT TIME ZONE timezone + interval '1 hour'
) - interval '1 microsecond';

-- The first day by whose end a moment has come; null for null. In an hour that comes twice before midnight it is not the
-- day that the clock shows.
CREATE OR REPLACE FUNCTION platform.first_day(moment timestamptz, timezone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST(moment AT TIME ZONE timezone AS date)
    + CASE WHEN moment > platform.day_end(CAST(moment AT TIME ZONE timezone AS date), timezone) THEN 1 ELSE 0 END;

-- Every change of a commitment's status is kept in dossiers.commitment_history: those that the source tells (it knows
-- when a commitment was made, completed and cancelled, also when all of it happened between two loads) and those that
-- overdue detection makes. raw.commitments.status_since says since when the present status holds, so that a statistic
-- as of now never looks into the history.

-- Since when the status of a new commitment holds, as far as the source tells; null: always. A commitment that arrives
-- as overdue was so from the day after it was due.
CREATE OR REPLACE FUNCTION dossiers.date_new_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status_since := CASE NEW.status
        WHEN 'completed' THEN greatest(NEW.completed_at, NEW.created_at)
        WHEN 'cancelled' THEN greatest(NEW.cancelled_at, NEW.created_at)
        WHEN 'overdue' THEN greatest(
            (SELECT platform.day_end(NEW.due_date, t.timezone) + interval '1 microsecond'
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

-- Statement triggers that note whose daily snapshots a change of their records has overtaken, and from which moment on:
-- an engagement that is entered a week late, a completion that is reported afterwards, a promise that gets another due
-- date. A change after the newest snapshot leaves no mark, and without any snapshot nothing is looked at.

CREATE OR REPLACE FUNCTION dossiers.newest_snapshot_end(tenant text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (
    SELECT platform.day_end(r.newest_day, t.timezone)
    FROM dossiers.snapshot_reach AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE r.tenant_id = tenant
);

-- One that came, or is gone.
CREATE OR REPLACE FUNCTION dossiers.late_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, c.since
    FROM (
        SELECT r.tenant_id, r.dossier_id, min(r.occurred_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id, r.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.late_changed_engagements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
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

-- A commitment counts from when it was made; one that has always been there changes every day.
CREATE OR REPLACE FUNCTION dossiers.late_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
    INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id, since)
    SELECT c.tenant_id, c.dossier_id, nullif(c.since, '-infinity')
    FROM (
        SELECT r.tenant_id, r.dossier_id, min(coalesce(r.created_at, '-infinity')) AS since
        FROM changed_rows AS r GROUP BY r.tenant_id, r.dossier_id
    ) AS c
    WHERE c.since <= dossiers.newest_snapshot_end(c.tenant_id);
    RETURN NULL;
END $$;

-- Due dates have no history: another one changes all days since the commitment was made.
CREATE OR REPLACE FUNCTION dossiers.late_changed_commitments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM dossiers.snapshot_reach) THEN RETURN NULL; END IF;
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
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_engagements();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_engagements();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.engagements
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_engagements();
CREATE OR REPLACE TRIGGER late_all AFTER TRUNCATE ON raw.engagements
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_all();
CREATE OR REPLACE TRIGGER late_new AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_commitments();
CREATE OR REPLACE TRIGGER late_changed AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_changed_commitments();
CREATE OR REPLACE TRIGGER late_deleted AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.late_commitments();
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

DROP FUNCTION dossiers.first_day(timestamptz, text);
DROP FUNCTION dossiers.day_end(date, text);

-- A tenant of the source is a tenant of the house from then on, and lives in its own time zone.
CREATE OR REPLACE FUNCTION litigation.register_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.tenants AS t (tenant_id, timezone)
    SELECT n.tenant_id, n.timezone FROM new_rows AS n
    ON CONFLICT (tenant_id) DO UPDATE SET timezone = excluded.timezone WHERE t.timezone <> excluded.timezone;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER register_new AFTER INSERT ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();
CREATE OR REPLACE TRIGGER register_changed AFTER UPDATE ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();

-- Every status that a task had: the source dates its creation and its completion, any other change counts from the moment
-- at which we learn of it, which is that of the run for one that computes as of a moment, and the tenant's clock else.

CREATE OR REPLACE FUNCTION litigation.learnt_at(tenant text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN coalesce(
    CAST(nullif(current_setting('platform.noticed_at', true), '') AS timestamptz),
    (SELECT t.clock_at FROM platform.tenants AS t WHERE t.tenant_id = tenant),
    clock_timestamp()
);

CREATE OR REPLACE FUNCTION litigation.keep_new_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_history (tenant_id, task_id, ordinal, status, valid_from)
    SELECT n.tenant_id, n.id, h.ordinal, h.status, h.valid_from
    FROM new_rows AS n
    CROSS JOIN LATERAL (
        -- It was open before it ended.
        SELECT 0 AS ordinal, CASE n.status WHEN 'in_progress' THEN n.status ELSE 'pending' END AS status, n.created_at AS valid_from
        UNION ALL
        SELECT 1, n.status, greatest(n.created_at,
            CASE n.status WHEN 'completed' THEN coalesce(n.completed_at, n.created_at) ELSE litigation.learnt_at(n.tenant_id) END)
        WHERE n.status IN ('completed', 'cancelled')
    ) AS h;
    RETURN NULL;
END $$;

-- Another date of the same completion corrects what is known of it; another status follows.
CREATE OR REPLACE FUNCTION litigation.keep_changed_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_history AS k (tenant_id, task_id, ordinal, status, valid_from)
    SELECT n.tenant_id, n.id, last.ordinal + CASE WHEN n.status = o.status THEN 0 ELSE 1 END, n.status,
        greatest(n.created_at, CASE WHEN n.status = 'completed' THEN coalesce(n.completed_at, litigation.learnt_at(n.tenant_id))
            WHEN n.status = o.status THEN last.valid_from ELSE litigation.learnt_at(n.tenant_id) END)
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
    CROSS JOIN LATERAL (
        SELECT h.ordinal, h.valid_from FROM litigation.task_history AS h WHERE h.tenant_id = n.tenant_id AND h.task_id = n.id
        ORDER BY h.ordinal DESC LIMIT 1
    ) AS last
    WHERE n.status <> o.status OR (n.status = 'completed' AND n.completed_at IS DISTINCT FROM o.completed_at)
    ON CONFLICT (tenant_id, task_id, ordinal) DO UPDATE SET valid_from = excluded.valid_from;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.forget_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM litigation.task_history AS h USING old_rows AS o WHERE h.tenant_id = o.tenant_id AND h.task_id = o.id;
    DELETE FROM litigation.task_flags AS f USING old_rows AS o WHERE f.tenant_id = o.tenant_id AND f.task_id = o.id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.forget_all_statuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE litigation.task_history, litigation.task_flags, litigation.task_marks, litigation.task_checks;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER keep_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.keep_new_statuses();
CREATE OR REPLACE TRIGGER keep_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.keep_changed_statuses();
CREATE OR REPLACE TRIGGER forget_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.forget_statuses();
CREATE OR REPLACE TRIGGER forget_all AFTER TRUNCATE ON raw.tasks
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.forget_all_statuses();

-- Statement triggers that note which tasks the next check of service levels has to look at, besides those that time
-- brings: what came, changed or is gone; all of a tenant when its service levels change.

CREATE OR REPLACE FUNCTION litigation.mark_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id) SELECT c.tenant_id, c.id FROM changed_rows AS c;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_changed_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id)
    SELECT n.tenant_id, n.id
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
    WHERE (o.status, o.priority, o.created_at, o.due_date, o.completed_at)
        IS DISTINCT FROM (n.status, n.priority, n.created_at, n.due_date, n.completed_at);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_policies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.task_marks (tenant_id, task_id) SELECT DISTINCT c.tenant_id, CAST(NULL AS uuid) FROM changed_rows AS c;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_tasks();
CREATE OR REPLACE TRIGGER mark_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_changed_tasks();
CREATE OR REPLACE TRIGGER mark_new AFTER INSERT ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();
CREATE OR REPLACE TRIGGER mark_changed AFTER UPDATE ON raw.sla_policies
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.sla_policies
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_policies();

-- Statement triggers that note whose daily metrics a change of records has overtaken, and from which moment on. A change
-- after the newest day leaves no mark, and before any day was taken nothing is looked at.

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of(tenants text[], moments timestamptz[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT r.tenant_id, c.since
    FROM (
        SELECT u.tenant_id, min(u.since) AS since FROM unnest(tenants, moments) AS u (tenant_id, since) GROUP BY u.tenant_id
    ) AS c
    JOIN litigation.metric_reach AS r ON r.tenant_id = c.tenant_id
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE c.since <= platform.day_end(r.newest_day, t.timezone);
$$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.created_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(
                CASE WHEN n.created_at <> o.created_at OR n.priority <> o.priority THEN least(n.created_at, o.created_at) END,
                CASE WHEN n.due_date IS DISTINCT FROM o.due_date THEN least(n.due_date, o.due_date) END,
                -- Of a completion its own date counts; of anything else, when we learn of it.
                CASE WHEN n.status <> o.status AND n.status <> 'completed' THEN litigation.learnt_at(n.tenant_id) END,
                CASE WHEN (n.status, n.completed_at) IS DISTINCT FROM (o.status, o.completed_at)
                    THEN least(n.completed_at, o.completed_at) END
            )) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            GROUP BY n.tenant_id
        ) AS c
        WHERE c.since IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_cases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.created_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_cases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(
                CASE WHEN n.created_at <> o.created_at THEN least(n.created_at, o.created_at) END,
                CASE WHEN n.closed_at IS DISTINCT FROM o.closed_at THEN least(n.closed_at, o.closed_at) END
            )) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            GROUP BY n.tenant_id
        ) AS c
        WHERE c.since IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_hearings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT r.tenant_id, min(r.hearing_date) AS since FROM changed_rows AS r
            WHERE r.status = 'completed' GROUP BY r.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_hearings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(n.hearing_date, o.hearing_date)) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE 'completed' IN (n.status, o.status)
                AND (n.status, n.hearing_date, n.attended) IS DISTINCT FROM (o.status, o.hearing_date, o.attended)
            GROUP BY n.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_documents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (SELECT r.tenant_id, min(r.uploaded_at) AS since FROM changed_rows AS r GROUP BY r.tenant_id) AS c;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_changed_documents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM litigation.metric_reach) THEN
        PERFORM litigation.mark_metrics_of(array_agg(c.tenant_id), array_agg(c.since))
        FROM (
            SELECT n.tenant_id, min(least(n.uploaded_at, o.uploaded_at)) AS since
            FROM old_rows AS o
            JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.id = o.id
            WHERE n.uploaded_at <> o.uploaded_at
            GROUP BY n.tenant_id
        ) AS c;
    END IF;
    RETURN NULL;
END $$;

-- Days begin elsewhere for a tenant in another time zone.
CREATE OR REPLACE FUNCTION litigation.mark_metrics_of_moved_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO litigation.metric_marks (tenant_id, since)
    SELECT n.tenant_id, NULL
    FROM old_rows AS o
    JOIN new_rows AS n ON n.tenant_id = o.tenant_id AND n.timezone <> o.timezone
    JOIN litigation.metric_reach AS r ON r.tenant_id = n.tenant_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.tasks
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_tasks();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_tasks();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.tasks
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_tasks();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.cases
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_cases();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.cases
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_cases();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.cases
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_cases();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.hearings
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_hearings();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.hearings
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_hearings();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.hearings
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_hearings();

CREATE OR REPLACE TRIGGER metrics_new AFTER INSERT ON raw.case_documents
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_documents();
CREATE OR REPLACE TRIGGER metrics_changed AFTER UPDATE ON raw.case_documents
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_changed_documents();
CREATE OR REPLACE TRIGGER metrics_deleted AFTER DELETE ON raw.case_documents
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_documents();

CREATE OR REPLACE TRIGGER metrics_moved AFTER UPDATE ON raw.tenants
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION litigation.mark_metrics_of_moved_tenants();

-- The newest day that has come to its end, which it has from 23:59 on.
CREATE OR REPLACE FUNCTION litigation.newest_whole_day(moment timestamptz, timezone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST((moment + interval '1 minute') AT TIME ZONE timezone AS date) - 1;

-- The people of the tenants of this desk.
CREATE OR REPLACE VIEW litigation.users WITH (security_invoker = true) AS
SELECT u.tenant_id, u.id, u.name, u.email, u.phone, u.role, u.locale, u.timezone, u.whatsapp
FROM raw.users AS u
JOIN raw.tenants AS t ON t.tenant_id = u.tenant_id;

-- What is late now: one row per flagged task, with its case and how late it is.
CREATE OR REPLACE VIEW litigation.late_tasks WITH (security_invoker = true) AS
SELECT f.tenant_id, n.name AS tenant, f.task_id, t.title, t.priority, t.assigned_to, t.due_date, f.overdue_since, f.sla_missed_at,
    CASE WHEN f.overdue_since IS NOT NULL THEN CAST(f.flagged_at AT TIME ZONE n.timezone AS date)
        - CAST(f.overdue_since AT TIME ZONE n.timezone AS date) END AS days_overdue_when_found,
    t.case_id, c.case_number
FROM litigation.task_flags AS f
JOIN raw.tasks AS t ON t.tenant_id = f.tenant_id AND t.id = f.task_id
JOIN raw.tenants AS n ON n.tenant_id = f.tenant_id
LEFT JOIN raw.cases AS c ON c.tenant_id = t.tenant_id AND c.id = t.case_id;

-- The document that the original kept: one per tenant and day.
CREATE OR REPLACE VIEW litigation.daily_snapshots WITH (security_invoker = true) AS
SELECT m.tenant_id, m.day,
    jsonb_build_object(
        'metric_type', 'daily_snapshot',
        'snapshot_date', m.day,
        'metric_value', jsonb_object_agg(m.metric, m.value) || jsonb_build_object('anomaly_detected', EXISTS (
            SELECT FROM litigation.anomalies AS a
            WHERE a.tenant_id = m.tenant_id AND a.day = m.day AND a.detector = 'weekday_robust'
        ))
    ) AS snapshot
FROM litigation.daily_metrics AS m
GROUP BY m.tenant_id, m.day;

-- What each run of a job of this desk did, in the form of the original.
CREATE OR REPLACE VIEW litigation.job_results WITH (security_invoker = true) AS
SELECT a.tenant_id, a.run_id, a.recorded_at, a.details ->> 'job_name' AS job_name,
    CASE WHEN a.details ->> 'status' = 'FAILURE' THEN jsonb_build_object(
        'success', false, 'job', j.job, 'error', split_part(a.details ->> 'error', '. ', 1),
        'errorDetails', a.details ->> 'error', 'executedAt', a.recorded_at)
    ELSE jsonb_build_object(
        'success', a.details ->> 'status' = 'SUCCESS', 'job', j.job, 'executedAt', a.recorded_at,
        'results', a.details -> 'results',
        'executionTime', concat(round(CAST(a.details ->> 'execution_time_ms' AS numeric) / 1000, 1), 's')) END AS document
FROM platform.audit_log AS a
JOIN (VALUES
    ('check_sla_and_overdue_job', 'check-sla-and-overdue'),
    ('send_hearing_reminders_job', 'send-hearing-reminders'),
    ('analytics_snapshot_job', 'analytics-snapshot'),
    ('check_upcoming_deadlines_job', 'check-upcoming-deadlines'),
    ('automation_health_check_job', 'automation-health-check')
) AS j (name, job) ON j.name = a.details ->> 'job_name'
WHERE a.action_type = 'background_job_execution';
