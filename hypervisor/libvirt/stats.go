package libvirt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

var _ hypervisor.Statser = (*Driver)(nil)

const (
	// patience is how long one guest may hold up the statistics of all. The daemon asks the guests' processes one after the other, and
	// waits for ever; it passes over those that it is asking already.
	patience = 400 * time.Millisecond
	// hungAtMost is how many requests are left hanging in the daemon, of the places that the query connection has.
	hungAtMost = 2
)

// Stats reads guests in one request. A guest whose process hangs holds nobody up: it is marked Stale.
func (d *Driver) Stats(ctx context.Context, q hypervisor.StatsQuery) (all []hypervisor.Stats, err error) {
	err = d.read(ctx, "stats", "", hypervisor.BulkLimit, func(c *call) error {
		doms := make([]rpc.Domain, 0, len(q.IDs))
		for _, id := range q.IDs {
			if err := hypervisor.ValidID(id); err != nil {
				return err
			}
			doms = append(doms, rpc.Domain{UUID: binaryID(id), ID: -1})
		}
		groups := uint32(statsState | statsCPU)
		for _, g := range []struct {
			want bool
			flag uint32
		}{{q.Memory, statsBalloon}, {q.VCPUs, statsVCPU}, {q.Disks, statsBlock}, {q.NICs, statsNIC}} {
			if g.want {
				groups |= g.flag
			}
		}
		r, err := c.bulk(doms, groups)
		if err != nil {
			return err
		}
		all, err = decodeStats(&r, groups)
		r.Done()
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// bulk reads statistics of doms, all for nil. If a guest hangs the daemon the request is repeated, which passes over that guest, and
// in the end only what the guests need not be asked for is read.
func (c *call) bulk(doms []rpc.Domain, groups uint32) (rpc.Reply, error) {
	args := make(rpc.Args, 0, 12+40*len(doms)).U32(uint32(len(doms)))
	for _, d := range doms {
		args = args.Dom(d)
	}
	for range hungAtMost {
		if groups&statsMonitor == 0 || c.d.hung.Load() >= hungAtMost {
			break
		}
		hurry := *c
		var cancel context.CancelFunc
		hurry.ctx, cancel = context.WithTimeout(c.ctx, patience)
		r, err := hurry.ask(rpc.ConnectGetAllDomainStats, slices.Clip(args).U32(groups).U32(statsNoWait))
		late := hurry.ctx.Err() != nil
		cancel()
		if err == nil || !late || c.ctx.Err() != nil {
			return r, err
		}
		c.d.hung.Add(1)
	}
	return c.ask(rpc.ConnectGetAllDomainStats, args.U32(groups&^statsMonitor).U32(statsNoWait))
}

// decodeStats takes no memory for each guest: their ids and names are parts of one string.
func decodeStats(r *rpc.Reply, groups uint32) ([]hypervisor.Stats, error) {
	n := r.Count(rpc.MaxDomains, 28)
	all, order, ends := make([]hypervisor.Stats, n), make([]place, n), make([]int, n)
	var text strings.Builder
	text.Grow(56 * n)
	var f figures
	take := func(field []byte, v rpc.Value) { f.take(field, v) }
	var one [idLen]byte
	for i := range all {
		name, uuid, id := r.DomRaw()
		f = figures{of: &all[i]}
		r.Params(take)
		f.fill(id, groups)
		order[i] = place{binary.BigEndian.Uint64(uuid[:]), binary.BigEndian.Uint64(uuid[8:]), i}
		text.Write(appendID(one[:0], uuid))
		text.Write(name)
		ends[i] = text.Len()
	}
	whole, from := text.String(), 0
	for i, end := range ends {
		all[i].ID, all[i].Name = whole[from:from+idLen], whole[from+idLen:end]
		from = end
	}
	arrange(all, order)
	return all, r.Err()
}

// fill writes what was read of a guest.
func (s *figures) fill(id int32, groups uint32) {
	to := s.of
	to.Incarnation, to.VCPUs, to.MaxMemoryMiB = int64(id), int(s.vcpus), s.maxMemory>>10
	if s.hasState {
		to.Power = hypervisor.PowerOf(int(s.state), int(s.reason))
	}
	if s.hasMem {
		to.MemoryMiB = s.memory >> 10
	}
	if id >= 0 {
		to.CPUTime = time.Duration(s.cpu)
		to.Stale = groups&statsShown != 0 && !s.answered
	}
}

// place is where a guest belongs by its id, and where it is.
type place struct {
	high, low uint64
	at        int
}

// arrange sorts by id. It moves each of the large elements once.
func arrange(all []hypervisor.Stats, order []place) {
	slices.SortFunc(order, func(a, b place) int { return cmp.Or(cmp.Compare(a.high, b.high), cmp.Compare(a.low, b.low)) })
	for i := range order {
		first, to := all[i], i
		for {
			from := order[to].at
			order[to].at = to
			if from == i {
				all[to] = first
				break
			}
			all[to], to = all[from], from
		}
	}
}

var (
	prefixBlock = []byte("block.")
	prefixNet   = []byte("net.")
)

// more takes what only Stats tells.
func (s *figures) more(field []byte, v rpc.Value) {
	if n, name, ok := item(field, prefixBlock); ok {
		s.answered = s.answered || string(name) == "rd.reqs"
		disk(at(&s.of.Disks, n), name, v)
	} else if n, name, ok := item(field, prefixNet); ok {
		nic(at(&s.of.NICs, n), name, v)
	}
}

// item splits "block.3.rd.bytes" into 3 and "rd.bytes".
func item(field, prefix []byte) (n int, name []byte, ok bool) {
	rest, ok := bytes.CutPrefix(field, prefix)
	if !ok {
		return 0, nil, false
	}
	number, name, ok := bytes.Cut(rest, []byte("."))
	if !ok || len(number) > 3 {
		return 0, nil, false
	}
	n, err := strconv.Atoi(string(number))
	return n, name, err == nil && n >= 0
}

// at is the nth of a list, which is made long enough.
func at[T any](list *[]T, n int) *T {
	for len(*list) <= n {
		var zero T
		*list = append(*list, zero)
	}
	return &(*list)[n]
}

func disk(d *hypervisor.DiskStats, name []byte, v rpc.Value) {
	switch string(name) {
	case "name":
		d.Name = v.Str
	case "rd.reqs":
		d.Reads = v.Int()
	case "rd.bytes":
		d.ReadBytes = v.Int()
	case "wr.reqs":
		d.Writes = v.Int()
	case "wr.bytes":
		d.WrittenBytes = v.Int()
	case "capacity":
		d.Capacity = v.Int()
	}
}

func nic(d *hypervisor.NICStats, name []byte, v rpc.Value) {
	switch string(name) {
	case "name":
		d.Name = v.Str
	case "rx.bytes":
		d.ReceivedBytes = v.Int()
	case "rx.pkts":
		d.ReceivedPackets = v.Int()
	case "rx.errs":
		d.ReceivedErrors = v.Int()
	case "rx.drop":
		d.ReceivedDropped = v.Int()
	case "tx.bytes":
		d.SentBytes = v.Int()
	case "tx.pkts":
		d.SentPackets = v.Int()
	case "tx.errs":
		d.SentErrors = v.Int()
	case "tx.drop":
		d.DroppedToSend = v.Int()
	}
}
