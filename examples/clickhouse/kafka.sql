-- Records from Kafka, as kube-enricher -transport kafka -format protobuf writes
-- them. Needs table.sql, protobuf.sql, and flow/flow.proto in the server's
-- format_schema_path.
CREATE TABLE IF NOT EXISTS flows_kafka AS flows_protobuf
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'localhost:9092',
    kafka_topic_list = 'flows',
    kafka_group_name = 'clickhouse-flows',
    kafka_format = 'Protobuf',
    kafka_schema = 'flow:EnrichedFlow',
    kafka_max_block_size = 65536;

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_kafka_view TO flows_protobuf AS SELECT * FROM flows_kafka;

-- Or JSON, with -format json, without protobuf.sql:
--
-- CREATE TABLE flows_kafka AS flows
-- ENGINE = Kafka
-- SETTINGS
--     kafka_broker_list = 'localhost:9092', kafka_topic_list = 'flows', kafka_group_name = 'clickhouse-flows',
--     kafka_format = 'JSONEachRow', input_format_skip_unknown_fields = 1;
-- CREATE MATERIALIZED VIEW flows_kafka_view TO flows AS SELECT * FROM flows_kafka;
