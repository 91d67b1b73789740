# One broker, which is a controller too (KRaft). The pod's number is the node's.
set -eu
node="${HOSTNAME##*-}"
enough=$((COPIES > 1 ? COPIES - 1 : 1))
cat >/tmp/server.properties <<END
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$VOTERS
listeners=CLIENT://:9092,CONTROLLER://:9093
advertised.listeners=CLIENT://$HOSTNAME.$SERVICE:9092
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs=/var/lib/kafka/data/log
auto.create.topics.enable=false
default.replication.factor=$COPIES
min.insync.replicas=$enough
offsets.topic.replication.factor=$COPIES
transaction.state.log.replication.factor=$COPIES
transaction.state.log.min.isr=$enough
unclean.leader.election.enable=false
replica.fetch.max.bytes=6291456
END
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" --config /tmp/server.properties
exec /opt/kafka/bin/kafka-server-start.sh /tmp/server.properties
