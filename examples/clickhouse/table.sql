-- Records of kube-enricher -format json -schema v1 (the defaults), which
-- JSONEachRow reads into these columns by their names. More fields of the
-- records (docs/fields.md) can be added as columns; those without one are
-- left out.
CREATE TABLE IF NOT EXISTS flows
(
    TimeReceived    DateTime,
    TimeFlowStart   DateTime,
    TimeFlowEnd     DateTime,
    Type            LowCardinality(String),
    SamplerAddress  LowCardinality(String),
    SamplingRate    UInt64,
    SrcAddr         String,
    DstAddr         String,
    EtypeName       LowCardinality(String),
    Proto           UInt32,
    ProtoName       LowCardinality(String),
    SrcPort         UInt32,
    DstPort         UInt32,
    TCPFlags        UInt32,
    Bytes           UInt64,
    Packets         UInt64,
    InIf            UInt32,
    OutIf           UInt32,
    Cluster         LowCardinality(String),
    SrcNamespace    LowCardinality(String),
    SrcPod          String,
    SrcWorkload     LowCardinality(String),
    SrcWorkloadKind LowCardinality(String),
    SrcHostIP       LowCardinality(String),
    SrcWarn         String,
    DstNamespace    LowCardinality(String),
    DstPod          String,
    DstWorkload     LowCardinality(String),
    DstWorkloadKind LowCardinality(String),
    DstHostIP       LowCardinality(String),
    DstWarn         String
)
ENGINE = MergeTree
PARTITION BY toDate(TimeReceived)
ORDER BY (TimeReceived, SrcNamespace, DstNamespace);
