-- Records of kube-enricher -format protobuf: what is inserted into
-- flows_protobuf (FORMAT Protobuf, format_schema 'flow:EnrichedFlow') arrives in
-- the table flows. The columns are fields of flow/flow.proto.
CREATE TABLE IF NOT EXISTS flows_protobuf
(
    type              String,
    time_received_ns  UInt64,
    time_flow_start_ns UInt64,
    time_flow_end_ns  UInt64,
    sampling_rate     UInt64,
    sampler_address   String,
    src_addr          String,
    dst_addr          String,
    etype             UInt32,
    proto             UInt32,
    src_port          UInt32,
    dst_port          UInt32,
    tcp_flags         UInt32,
    bytes             UInt64,
    packets           UInt64,
    in_if             UInt32,
    out_if            UInt32,
    cluster           String,
    src_namespace     String,
    src_pod           String,
    src_workload      String,
    src_workload_kind String,
    src_host_ip       String,
    src_warn          String,
    dst_namespace     String,
    dst_pod           String,
    dst_workload      String,
    dst_workload_kind String,
    dst_host_ip       String,
    dst_warn          String
)
ENGINE = Null;

-- An address of 4 or 16 bytes, as text.
CREATE FUNCTION IF NOT EXISTS flowAddr AS (a) -> multiIf(
    length(a) = 4, IPv4NumToString(reinterpretAsUInt32(reverse(a))),
    length(a) = 16, replaceRegexpOne(IPv6NumToString(toFixedString(a, 16)), '^::ffff:', ''),
    '');

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_protobuf_view TO flows AS
SELECT
    toDateTime(intDiv(time_received_ns, 1000000000))   AS TimeReceived,
    toDateTime(intDiv(time_flow_start_ns, 1000000000)) AS TimeFlowStart,
    toDateTime(intDiv(time_flow_end_ns, 1000000000))   AS TimeFlowEnd,
    type                     AS Type,
    flowAddr(sampler_address) AS SamplerAddress,
    sampling_rate            AS SamplingRate,
    flowAddr(src_addr)       AS SrcAddr,
    flowAddr(dst_addr)       AS DstAddr,
    transform(etype, [2048, 34525, 2054], ['IPv4', 'IPv6', 'ARP'], '') AS EtypeName,
    proto                    AS Proto,
    transform(proto, [1, 2, 4, 6, 17, 41, 47, 50, 51, 58, 89, 132], ['ICMP', 'IGMP', 'IPv4', 'TCP', 'UDP', 'IPv6', 'GRE', 'ESP', 'AH', 'IPv6-ICMP', 'OSPFIGP', 'SCTP'], '') AS ProtoName,
    src_port                 AS SrcPort,
    dst_port                 AS DstPort,
    tcp_flags                AS TCPFlags,
    bytes                    AS Bytes,
    packets                  AS Packets,
    in_if                    AS InIf,
    out_if                   AS OutIf,
    cluster                  AS Cluster,
    src_namespace            AS SrcNamespace,
    src_pod                  AS SrcPod,
    src_workload             AS SrcWorkload,
    src_workload_kind        AS SrcWorkloadKind,
    src_host_ip              AS SrcHostIP,
    src_warn                 AS SrcWarn,
    dst_namespace            AS DstNamespace,
    dst_pod                  AS DstPod,
    dst_workload             AS DstWorkload,
    dst_workload_kind        AS DstWorkloadKind,
    dst_host_ip              AS DstHostIP,
    dst_warn                 AS DstWarn
FROM flows_protobuf;
