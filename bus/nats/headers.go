package nats

import (
	"net/url"
	"strings"

	client "github.com/nats-io/nats.go"

	"github.com/drover-cloud/drover/bus"
)

const escaped = "=?" // before a value that a header cannot hold as it is

func headers(m *bus.Message) client.Header {
	h := client.Header{}
	for k, v := range m.Headers() {
		if v != strings.TrimSpace(v) || strings.HasPrefix(v, escaped) || strings.ContainsAny(v, "\r\n\x00") {
			v = escaped + url.QueryEscape(v)
		}
		h[k] = []string{v}
	}
	return h
}

// message reads what headers wrote.
func message(in *client.Msg) (*bus.Message, error) {
	return bus.Parse(func(yield func(k, v string) bool) {
		for k, vs := range in.Header {
			if len(vs) == 0 {
				continue
			}
			v := vs[0]
			if rest, ok := strings.CutPrefix(v, escaped); ok {
				if s, err := url.QueryUnescape(rest); err == nil {
					v = s
				}
			}
			if !yield(k, v) {
				return
			}
		}
	}, in.Data)
}
