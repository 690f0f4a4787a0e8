-- A database role, and whether row security would not hold it back. Grain: one row, or none.
SELECT r.rolname AS name, r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, c.relowner, 'MEMBER') AS unbound
FROM pg_roles AS r
CROSS JOIN pg_class AS c
WHERE r.rolname = :role AND c.oid = CAST('platform.tenants' AS regclass)
