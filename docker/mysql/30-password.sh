# The bridge's password, out of its file. The statement goes over standard input, so that the password is in no
# argument; it is hexadecimal (docker/make-secrets) and needs no quoting. docker_process_sql is the image's own.
docker_process_sql <<SQL
ALTER USER pontoon@'%' IDENTIFIED BY '$(cat /run/secrets/stock)' ACCOUNT UNLOCK;
SQL
