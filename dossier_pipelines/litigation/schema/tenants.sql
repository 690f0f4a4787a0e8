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
