-- Statement triggers that note which dossiers a change of their records makes stale. They see direct changes
-- with psql as well as our own merges. Of a bulk change 20 record ids per dossier are kept, enough to explain
-- a score; the dossier is what counts.
CREATE OR REPLACE FUNCTION dossiers.mark_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, TG_TABLE_NAME, (array_agg(id))[1:20]
    FROM new_rows GROUP BY tenant_id, dossier_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, TG_TABLE_NAME, (array_agg(id))[1:20]
    FROM old_rows GROUP BY tenant_id, dossier_id;
    RETURN NULL;
END $$;

-- A record that moved to another dossier makes both stale.
CREATE OR REPLACE FUNCTION dossiers.mark_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', dossier_id, TG_TABLE_NAME, (array_agg(id))[1:20]
    FROM (SELECT tenant_id, dossier_id, id FROM old_rows UNION SELECT tenant_id, dossier_id, id FROM new_rows) AS touched
    GROUP BY tenant_id, dossier_id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, TG_TABLE_NAME, '{}' FROM raw.dossiers;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.mark_dossiers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids)
    SELECT tenant_id, 'dossiers.health', id, 'dossiers', ARRAY[id] FROM new_rows;
    RETURN NULL;
END $$;

-- Deleting a dossier removes everything derived from it. A foreign key would do the same at the price of a probe
-- per loaded engagement, a third of the time of a bulk load; merges check references in one join instead.
CREATE OR REPLACE FUNCTION dossiers.remove_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM raw.engagements AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.commitments AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM raw.documents AS r USING old_rows AS o WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM dossiers.engagement_stats AS r USING old_rows AS o
    WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM dossiers.commitment_stats AS r USING old_rows AS o
    WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    DELETE FROM dossiers.health_scores AS r USING old_rows AS o
    WHERE r.tenant_id = o.tenant_id AND r.dossier_id = o.id;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION dossiers.remove_all_derived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE raw.engagements, raw.commitments, raw.documents,
        dossiers.engagement_stats, dossiers.commitment_stats, dossiers.health_scores;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.engagements
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_inserted();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_updated();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.engagements
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_deleted();
CREATE OR REPLACE TRIGGER mark_all AFTER TRUNCATE ON raw.engagements
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_all();
CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.commitments
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_inserted();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_updated();
CREATE OR REPLACE TRIGGER mark_deleted AFTER DELETE ON raw.commitments
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_deleted();
CREATE OR REPLACE TRIGGER mark_all AFTER TRUNCATE ON raw.commitments
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_all();
CREATE OR REPLACE TRIGGER mark_inserted AFTER INSERT ON raw.dossiers
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_dossiers();
CREATE OR REPLACE TRIGGER mark_updated AFTER UPDATE ON raw.dossiers
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.mark_dossiers();
CREATE OR REPLACE TRIGGER remove_derived AFTER DELETE ON raw.dossiers
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION dossiers.remove_derived();
CREATE OR REPLACE TRIGGER remove_all_derived AFTER TRUNCATE ON raw.dossiers
    FOR EACH STATEMENT EXECUTE FUNCTION dossiers.remove_all_derived();
