-- What one side removes while the other makes a row refer to it is put back. A parent that goes with its children, and a child that comes with its parent, are no conflict.

--- configuration
--- configuration of child
foreign_key = "restore_parent"
--- both
CREATE TABLE restore_parent (id bigint PRIMARY KEY, name varchar(60));
CREATE TABLE restore_parent_child (id bigint PRIMARY KEY, parent bigint, CONSTRAINT restore_parent_fk FOREIGN KEY (parent) REFERENCES restore_parent (id));
INSERT INTO restore_parent VALUES (1, 'first'), (2, 'second'), (3, 'third');
INSERT INTO restore_parent_child VALUES (3, 3), (4, 3);
--- a
INSERT INTO restore_parent_child VALUES (1, 1);
INSERT INTO restore_parent VALUES (9, 'ninth');
INSERT INTO restore_parent_child VALUES (9, 9);
--- b, later
DELETE FROM restore_parent WHERE id = 1;
DELETE FROM restore_parent_child WHERE parent = 3;
DELETE FROM restore_parent WHERE id = 3;
--- rows
1 | first
2 | second
9 | ninth
--- rows of child
1 | 1
9 | 9
--- records
1 | only_writer: b; restore_parent: restore_parent_fk
child 1 | only_writer: a
