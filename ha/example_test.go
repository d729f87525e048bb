package ha_test

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover/ha"
)

// A host that was silent for too long is suspected; nothing else happens to it yet.
func ExampleDecide() {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	host := ha.Watched{
		Record: ha.Record{Host: ha.Host{ID: "kvm-1", Cluster: "c1"}, State: ha.Up, Owner: "monitor"}, Mine: true,
		Seen: ha.Seen{Since: now.Add(-time.Hour), Last: now.Add(-9 * time.Second)},
	}
	s := ha.Snapshot{Policy: ha.Policy{Fencer: true}.Defaults(), Store: now, Self: ha.Self{Owner: "monitor"}, Hosts: []ha.Watched{host}}
	for _, a := range ha.Decide(s, now) {
		fmt.Println(a.Kind, a.Host, a.To)
	}
	// Output:
	// move kvm-1 suspect
	// wake
}
