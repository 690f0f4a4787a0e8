-- A tenant of the source is a tenant of the house from then on, and lives in its own time zone.
CREATE OR REPLACE FUNCTION litigation.register_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO platform.tenants AS t (tenant_id, timezone)
    SELECT n.tenant_id, n.timezone FROM new_rows AS n
    ON CONFLICT (tenant_id) DO UPDATE SET timezone = excluded.timezone WHERE t.timezone <> excluded.timezone;
    PERFORM automation_rules.welcome_tenants(ARRAY(SELECT n.tenant_id FROM new_rows AS n));
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER register_new AFTER INSERT ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();
CREATE OR REPLACE TRIGGER register_changed AFTER UPDATE ON raw.tenants
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.register_tenants();

-- One that the source removes stays a tenant of the house, and its rules stay, until the source has it again: they rest, but
-- not those of a tenant that has loads of its own, and so another desk: loads of this one are of all its tenants.
CREATE OR REPLACE FUNCTION litigation.unregister_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM automation_rules.forget_tenants(ARRAY(
        SELECT o.tenant_id FROM old_rows AS o
        WHERE NOT EXISTS (SELECT FROM raw.tenants AS t WHERE t.tenant_id = o.tenant_id OFFSET '0')
            AND NOT EXISTS (SELECT FROM ingestion.loads AS l WHERE l.tenant_id = o.tenant_id OFFSET '0')
    ));
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER unregister_removed AFTER DELETE ON raw.tenants
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION litigation.unregister_tenants();
