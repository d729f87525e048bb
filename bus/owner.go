package bus

import (
	"sync"

	"github.com/drover-cloud/drover/internal/alarm"
)

const maxHeld = 1000

// owned checks that the key of r is ours by the newest view that can be had, and queues it or says whose it is.
func (b *Bus) owned(r *request) error {
	m := r.m
	v := b.view.now()
	stale := m.Wire.Epoch > v.Epoch && v.Epoch != 0 || (m.Wire.Epoch == 0 || v.Epoch == 0) && m.Wire.Ring != v.Ring.Fingerprint()
	if !stale {
		return b.settle(r, v)
	}
	b.spawn("bus/view/"+m.ID, func() {
		v := b.view.fresh(b.ctx, m.ID, func(v View) bool {
			return v.Epoch >= m.Wire.Epoch && v.Epoch != 0 || v.Ring.Fingerprint() == m.Wire.Ring
		})
		if err := b.settle(r, v); err != nil {
			b.window.forget(m.ID)
		}
	})
	return nil
}

func (b *Bus) settle(r *request, v View) error {
	owner, _ := v.Ring.Owner(r.m.Key)
	if owner != b.node {
		return b.refuse(r.m, &NotOwnerError{owner, v.Epoch})
	}
	if b.cfg.Handover > 0 {
		if kept, err := b.held.keep(b, r); kept {
			if err != nil {
				return b.refuse(r.m, err)
			}
			return nil
		}
	}
	return b.enqueue(r)
}

// holding keeps messages for keys gained from members that are still up, for Config.Handover after a change of view.
type holding struct {
	alarm.Alarm
	mu   sync.Mutex
	b    *Bus
	old  View
	on   bool
	held []*request
}

// changed begins a handover.
func (h *holding) changed(b *Bus, old, v View) {
	if b.cfg.Handover <= 0 || old.Ring.Len() == 0 || old.Ring.Fingerprint() == v.Ring.Fingerprint() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b, h.Owner = b, h
	if !h.on {
		h.old = old
	}
	h.on = true
	b.alarms.Set(&h.Alarm, b.env.Clock.Now().Add(b.cfg.Handover))
}

func (h *holding) keep(b *Bus, r *request) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return false, nil
	}
	was, _ := h.old.Ring.Owner(r.m.Key)
	if was == b.node || !b.view.now().up(was) {
		return false, nil
	}
	if len(h.held) >= maxHeld {
		return true, busy("too many messages wait for the handover")
	}
	h.held = append(h.held, r)
	return true, nil
}

func (h *holding) name() string { return "handover" }

// fire ends the handover.
func (h *holding) Fire() {
	h.mu.Lock()
	held := h.held
	h.held, h.on = nil, false
	h.mu.Unlock()
	for _, r := range held {
		if err := h.b.enqueue(r); err != nil {
			h.b.window.forget(r.m.ID)
		}
	}
}
