# The bridge's password, out of its file. psql asks for the file itself, so that the password is in no argument.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/shop`
ALTER ROLE pontoon PASSWORD :'password';
SQL
