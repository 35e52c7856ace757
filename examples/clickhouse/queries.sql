-- Bytes between workloads, the largest first. What the exporter sampled and did
-- not scale up itself (sFlow, routers' NetFlow) is scaled up here; Open vSwitch's
-- IPFIX gives no rate and is scaled up already.
SELECT
    SrcNamespace, SrcWorkload, DstNamespace, DstWorkload,
    sum(Bytes * greatest(SamplingRate, 1)) AS bytes,
    count() AS records
FROM flows
WHERE SrcWorkload != '' AND DstWorkload != ''
GROUP BY SrcNamespace, SrcWorkload, DstNamespace, DstWorkload
ORDER BY bytes DESC
LIMIT 20;

-- What left the cluster, by namespace and day.
SELECT toDate(TimeReceived) AS day, SrcNamespace, sum(Bytes * greatest(SamplingRate, 1)) AS bytes
FROM flows
WHERE SrcNamespace != '' AND DstWorkload = ''
GROUP BY day, SrcNamespace
ORDER BY day, bytes DESC;
