package gen

import "testing"

func TestGoName(t *testing.T) {
	for name, want := range map[string]string{
		"Bytes": "Bytes", "VlanId": "VlanID", "MplsIp": "MplsIP", "MplsTtl": "MplsTTL", "AsPath": "ASPath",
		"IPTTL": "IPTTL", "NextHopAS": "NextHopAS", "Idle": "Idle", "ApplicationIdName": "ApplicationIDName",
		"IcmpType": "IcmpType", "IdAndId": "IDAndID", "IPv6FlowLabel": "IPv6FlowLabel",
	} {
		if got := goName(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
