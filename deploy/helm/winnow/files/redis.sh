# One server. With others beside it, it follows whom the sentinels call the primary; before there is one, the first pod is.
set -eu
me="$(hostname).$SERVICE"
set -- redis-server --dir /data --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction \
    --requirepass "$REDISCLI_AUTH" --masterauth "$REDISCLI_AUTH"
if [ "$MEMBERS" -gt 1 ]; then
    primary=$(timeout 3 redis-cli -h "$SERVICE" -p 26379 sentinel get-master-addr-by-name winnow 2>/dev/null | head -n 1) || true
    primary=${primary:-$SERVICE-0.$SERVICE}
    set -- "$@" --replica-announce-ip "$me" --min-replicas-to-write 1 --min-replicas-max-lag 10
    [ "$primary" = "$me" ] || set -- "$@" --replicaof "$primary" 6379
fi
exec "$@"
