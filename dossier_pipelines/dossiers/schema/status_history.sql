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
