package drover_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

func TestSpecGroupSeeds(t *testing.T) {
	t.Run("service-24 a component uses its own Group", func(t *testing.T) {
		for seed := range uint64(1000) {
			synctest.Test(t, func(t *testing.T) { testOwnGroup(t, seed) })
		}
	})
}

// meddler uses its own Group at random, and ends in a random way.
type meddler struct {
	g    *drover.Group
	rng  *rand.Rand
	name string
}

func (m *meddler) Run(ctx context.Context) error {
	for i := range 1 + m.rng.IntN(8) {
		switch m.rng.IntN(6) {
		case 0:
			name := fmt.Sprintf("%s.%d", m.name, i)
			_ = m.g.Add(name, &meddler{g: m.g, rng: rand.New(rand.NewPCG(m.rng.Uint64(), 0)), name: name}, drover.Background())
		case 1:
			m.g.Status()
		case 2:
			m.g.Health()
		case 3:
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			_ = m.g.Drain(ctx)
			cancel()
		default:
			time.Sleep(time.Duration(m.rng.IntN(3)) * time.Millisecond)
		}
	}
	switch m.rng.IntN(10) {
	case 0:
		return errBoom
	case 1:
		panic(errBoom)
	case 2, 3, 4:
		return nil
	}
	<-ctx.Done()
	return nil
}

func (m *meddler) Drain(ctx context.Context) error {
	_ = m.g.Status()
	return m.g.Drain(context.WithoutCancel(ctx)) // ask in a circle
}

func (m *meddler) Health() drover.Health { return drover.Health{State: "ready"} }

func testOwnGroup(t *testing.T, seed uint64) {
	g := group()
	for i := range 4 {
		name := fmt.Sprint(i)
		g.Add(name, &meddler{g: g, rng: rand.New(rand.NewPCG(seed, uint64(i))), name: name}, drover.Background())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := g.Run(ctx); err != nil && !errors.Is(err, errBoom) {
		t.Errorf("seed %d: Run gave %v", seed, err)
	}
	if d := ctx.Err(); d == nil && len(g.Status()) < 4 {
		t.Errorf("seed %d: components are missing", seed)
	}
}
