package syncqueue

import "go.opentelemetry.io/otel/metric"

// meters are a Queue's instruments.
type meters struct {
	moved, repaired metric.Int64Counter
	paused          metric.Int64UpDownCounter
}

func (t *meters) init(m metric.Meter) {
	t.moved, _ = m.Int64Counter("drover.syncqueue.moved", metric.WithDescription("Waiters moved in their line."))
	t.repaired, _ = m.Int64Counter("drover.syncqueue.repaired", metric.WithDescription("Lines that the audit repaired: 0 for ever."))
	t.paused, _ = m.Int64UpDownCounter("drover.syncqueue.paused", metric.WithDescription("Keys and kinds paused by this node, less those resumed by it."))
}
