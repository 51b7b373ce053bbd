-- The bridge's role on PostgreSQL, with the least rights that everything works with.
--
-- For the tables customers and items of the database shop, both ways, in the bridge shop-stock. For other tables
-- `pontoon setup --print-sql` prints the same statements with their names. Two commands want more, and print what:
-- `setup --create-tables` makes tables, and `sequences --execute` moves sequences, which only their owner may.
--
-- Run it as a superuser, in the database that is bridged, and give the role its password where no history keeps it:
--
--     psql -d shop -v ON_ERROR_STOP=1 -f postgres.sql
--     psql -d shop -c '\password pontoon'
--
-- Everything else (the tables of the schema pontoon, the slot, the origins) `pontoon setup` makes as this role.
-- What the tables themselves need is no right, and their owner's to give:
--
--     ALTER TABLE public.customers REPLICA IDENTITY FULL;

CREATE ROLE pontoon LOGIN;

-- To read the log, and to make and drop the bridge's slot.
ALTER ROLE pontoon REPLICATION;

-- A session that writes is tagged with a replication origin: by it the bridge knows its own writes when the log
-- brings them back. `create` and `drop` are for setup and teardown, `session_setup` tags the session, and
-- `xact_setup` gives each transaction the time of the write that it brings, by which the last writer wins.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_create(text) TO pontoon;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_drop(text) TO pontoon;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_session_setup(text) TO pontoon;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_xact_setup(pg_lsn, timestamptz) TO pontoon;

-- Triggers and foreign keys have acted on a row where it was written, and must not once more where it is brought:
-- sessions that write set session_replication_role = replica. Before PostgreSQL 15 the right to a superuser's
-- setting can be given to nobody else, and nothing less than a superuser will do.
SELECT current_setting('server_version_num')::int >= 150000 AS grants_settings \gset
\if :grants_settings
GRANT SET ON PARAMETER session_replication_role TO pontoon;
\else
ALTER ROLE pontoon SUPERUSER;
\endif

-- Only for `[limits] target_replica_lag` and `target_load` of the configuration: to see how far standbys are, and what others' sessions do.
--
--     GRANT pg_read_all_stats TO pontoon;

-- To name the tables at all.
GRANT USAGE ON SCHEMA public TO pontoon;

-- SELECT reads the rows of a first load, of a comparison, and of a conflict that is settled; the others apply what
-- the other side has written. UPDATE is also what locks a row while its conflict is settled.
--
-- Of a table that goes only to the other side, `direction = "shop->stock"` for every table, less is enough:
-- SELECT, and UPDATE of the key for locks alone (PostgreSQL knows no lesser right to lock a row):
--
--     GRANT SELECT, UPDATE (id) ON TABLE public.customers TO pontoon;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.customers TO pontoon;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.items TO pontoon;

-- The bridge's own tables are in a schema that the role owns. It could make the schema itself only with CREATE on
-- the database, which is more than it needs for the years after.
CREATE SCHEMA IF NOT EXISTS pontoon AUTHORIZATION pontoon;

-- Only the owner of a table can publish it, so the publication is made here and given to the role, which then
-- finds it as it should be. It is named after the bridge, with each dash as an underscore. Where the list of tables
-- changes later, what `pontoon setup --print-sql` prints has to be run again before `pontoon setup`.
CREATE PUBLICATION pontoon_shop_stock FOR TABLE public.customers, public.items
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
ALTER PUBLICATION pontoon_shop_stock OWNER TO pontoon;
