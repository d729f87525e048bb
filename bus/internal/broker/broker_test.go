package broker_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/internal/broker"
)

// full has every field.
func full() *bus.Message {
	return &bus.Message{
		ID: "id", Topic: "svc", Node: "n", Key: "k", Fanout: true, Namespace: "ns", Method: "m", Version: "1.2",
		Header: map[string]string{"a": "b", "empty": ""}, Body: []byte("body"),
		Wire: bus.Wire{
			Kind: bus.KindReply, From: "f", Inc: 1 << 62, To: -1, Sent: 2, Deadline: 3, Clock: 4, At: 5, Monitor: 6, Epoch: 7, Ring: 1<<64 - 1,
			Codec: "json", Chain: []string{"x", ""}, Err: "e", Traceparent: "tp", Tracestate: "ts", Baggage: "bg", Identity: "who",
		},
	}
}

func TestEnvelope(t *testing.T) {
	for _, m := range []*bus.Message{full(), {ID: "only", Body: []byte{}}} {
		got, err := broker.Decode(broker.Append([]byte("before"), m)[len("before"):])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
	}
	t.Run("bus-91 truncated frames", func(t *testing.T) {
		m := full()
		m.Body = nil
		data := broker.Append(nil, m)
		for i := range data {
			if _, err := broker.Decode(data[:i]); !errors.Is(err, bus.ErrInvalid) {
				t.Errorf("%d of %d bytes: %v", i, len(data), err)
			}
		}
		long := full()
		long.ID = strings.Repeat("x", 256)
		chain := full()
		chain.Wire.Chain = make([]string, 17)
		late := full()
		late.Wire.Kind = bus.KindUnrouted
		big := full()
		big.Header["big"] = strings.Repeat("x", 1<<20)
		for _, bad := range [][]byte{nil, []byte("{}"), {1, 0xff, 0xff, 0xff, 0xff}, broker.Append(nil, &bus.Message{}),
			broker.Append(nil, long), broker.Append(nil, chain), broker.Append(nil, late), broker.Append(nil, big)} {
			if _, err := broker.Decode(bad); !errors.Is(err, bus.ErrInvalid) {
				t.Errorf("%.40q: %v", bad, err)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(broker.Append(nil, full()))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := broker.Decode(data)
		if err != nil {
			if !errors.Is(err, bus.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := broker.Decode(broker.Append(nil, m))
		if err == nil && !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v came back as %+v", m, again)
		}
	})
}

func TestEscape(t *testing.T) {
	for _, s := range []string{"", "a-b_C9", "a.b*c> d", "=2E", "узел", "\x00\xff"} {
		e := broker.Escape(s)
		if broker.Unescape(e) != s || strings.ContainsAny(e, ".*> ") {
			t.Errorf("%q is escaped as %q, and read as %q", s, e, broker.Unescape(e))
		}
	}
	for _, odd := range []string{"=", "a=", "=G1", "=4"} {
		if got := broker.Unescape(odd); got != odd {
			t.Errorf("%q is read as %q", odd, got)
		}
	}
}
