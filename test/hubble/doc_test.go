package hubble
import (
 _ "github.com/cilium/cilium/pkg/hubble/filters"
)
