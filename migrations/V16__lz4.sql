-- A declaration of some size is compressed: with LZ4, where this server has it, in a tenth of the time.
do $$
begin
    alter table record_version alter column declaration set compression lz4;
exception
    when feature_not_supported then
        raise notice 'this server has no LZ4: declarations are compressed as before';
    when lock_not_available then
        raise notice 'record_version is in use: declarations are compressed as before, until somebody says this again';
end
$$;
