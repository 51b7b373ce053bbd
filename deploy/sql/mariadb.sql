-- The bridge's account on MariaDB, with the least rights that everything works with. (MySQL: mysql.sql.)
--
-- For the tables customers and items of the database shop, both ways. For other tables `pontoon setup --print-sql`
-- prints the same statements with their names. Two commands want more, and print what: `setup --create-tables` makes
-- tables, and `sequences --execute` moves counters of keys.
--
-- Run it as an administrator. The account is made locked and without a password; unlock it from the client's
-- prompt, whose history leaves such statements out:
--
--     mariadb -u root -p <mariadb.sql
--     MariaDB> ALTER USER pontoon@'%' IDENTIFIED BY '...' ACCOUNT UNLOCK;
--
-- Instead of '%' write the addresses that the bridge connects from, where they are known. The database pontoon and
-- its tables `pontoon setup` makes as this account.

CREATE USER pontoon@'%' ACCOUNT LOCK;

-- To see whether the server is a replica of the other node, which would bring each write round again. (MySQL has
-- this in REPLICATION CLIENT.)
GRANT REPLICA MONITOR ON *.* TO pontoon@'%';

-- REPLICATION SLAVE reads the binary log, as a replica does. REPLICATION CLIENT, which MariaDB shows as BINLOG
-- MONITOR, asks where the log ends and which of its files are still there, for lag and headroom. What XA has
-- prepared everybody may see here, so that there is no right for it.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO pontoon@'%';

-- The bridge's own tables. CREATE and DROP are for setup and teardown. ALTER is not among them: where a later
-- version of pontoon adds columns, `pontoon setup --print-sql` has the statements for an administrator.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON `pontoon`.* TO pontoon@'%';

-- SELECT reads the rows of a first load, of a comparison, and of a conflict that is settled; the others apply what
-- the other side has written. TRIGGER is there for `pontoon check` alone: without it the server does not show
-- whether a table has triggers, which would act a second time on what the bridge writes.
--
-- Of tables that go only to the other side less is enough: SELECT, and UPDATE of the key, with which the rows of a
-- conflict are locked (MariaDB lets whoever may read a row lock it, MySQL does not; `pontoon setup --print-sql` prints
-- the same for both):
--
--     GRANT SELECT, UPDATE (`id`) ON `shop`.`customers` TO pontoon@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `shop`.`customers` TO pontoon@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `shop`.`items` TO pontoon@'%';
