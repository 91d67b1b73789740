# Beside every server one sentinel; a majority of them decides that the primary is gone, and who follows it.
set -eu
primary=$(timeout 3 redis-cli -h "$SERVICE" -p 26379 sentinel get-master-addr-by-name winnow 2>/dev/null | head -n 1) || true
cat >/tmp/sentinel.conf <<END
port 26379
dir /tmp
requirepass "$REDISCLI_AUTH"
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $(hostname).$SERVICE
sentinel monitor winnow ${primary:-$SERVICE-0.$SERVICE} 6379 $((MEMBERS / 2 + 1))
sentinel auth-pass winnow $REDISCLI_AUTH
sentinel down-after-milliseconds winnow 5000
sentinel failover-timeout winnow 30000
sentinel parallel-syncs winnow 1
END
exec redis-sentinel /tmp/sentinel.conf
