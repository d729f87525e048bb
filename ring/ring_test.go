package ring_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/drover-cloud/drover/ring"
)

func TestSpec(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T)
	}{
		{"ring-01 a member joins", joins},
		{"ring-02 a member leaves and returns", leaves},
		{"ring-03 balance", balance},
		{"ring-04 golden values", goldens},
		{"ring-05 what makes a ring", identity},
		{"ring-06 empty", empty},
		{"ring-07 flapping", flaps},
		{"ring-08 equal scores", ties},
		{"ring-09 weights", weights},
		{"ring-10 owners", owners},
		{"ring-11 moved and gained", moved},
		{"ring-12 no allocations", allocations},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.f(t)
		})
	}
}

// names are prefix-from … prefix-to.
func names(prefix string, from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, prefix+strconv.Itoa(i))
	}
	return out
}

func owner(t testing.TB, r *ring.Ring, key string) string {
	o, ok := r.Owner(key)
	if !ok {
		t.Fatalf("nobody owns %q", key)
	}
	return o
}

func count(t testing.TB, r *ring.Ring, keys []string) map[string]int {
	n := map[string]int{}
	for _, k := range keys {
		n[owner(t, r, k)]++
	}
	return n
}

// extremes are the fullest and the emptiest of n members' shares, relative to the mean.
func extremes(held map[string]int, members []string, keys int) (most, least float64) {
	least = 1e9
	for _, m := range members {
		share := float64(held[m]) * float64(len(members)) / float64(keys)
		most, least = max(most, share), min(least, share)
	}
	return most, least
}

func joins(t *testing.T) {
	keys := names("vm-", 0, 99_999)
	for _, n := range []int{1, 4, 9, 30} {
		a, b := ring.New(names("node-", 1, n)), ring.New(names("node-", 1, n+1))
		moved := a.Moved(b, keys...)
		for k, to := range moved {
			if to != fmt.Sprint("node-", n+1) {
				t.Fatalf("%s moved to %s, which is no new member", k, to)
			}
		}
		if share := float64(len(moved)) / 100_000 * float64(n+1); share < 0.9 || share > 1.1 {
			t.Errorf("with %d members %.3f of a fair share moved", n, share)
		}
	}
}

func leaves(t *testing.T) {
	keys, all := names("vm-", 0, 99_999), names("node-", 1, 10)
	for i, gone := range all {
		a := ring.New(all)
		left := slices.Delete(slices.Clone(all), i, i+1)
		b := ring.New(left)
		got := map[string]int{}
		for k, to := range a.Moved(b, keys...) {
			if was := owner(t, a, k); was != gone {
				t.Fatalf("%s moved from %s when %s left", k, was, gone)
			}
			got[to]++
		}
		total := 0
		for _, n := range got {
			total += n
		}
		if most, _ := extremes(got, left, total); most > 1.15 {
			t.Errorf("one of the others took %.3f of its share of %s", most, gone)
		}
		if n := len(a.Moved(ring.New(append(left, gone)), keys...)); n != 0 {
			t.Errorf("%d keys elsewhere after %s returned", n, gone)
		}
	}
}

func balance(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return strconv.FormatUint(rnd.Uint64(), 36) }
	sample := func(n, keys int) (float64, float64) {
		var members, ks []string
		for range n {
			members = append(members, word())
		}
		for range keys {
			ks = append(ks, word())
		}
		return extremes(count(t, ring.New(members), ks), members, keys)
	}
	var all []float64
	for i := range 200 {
		most, least := sample(2+i%9, 20_000)
		all = append(all, most)
		if most > 1.10 || least < 0.90 {
			t.Errorf("%d members: the fullest has %.3f of the mean, the emptiest %.3f", 2+i%9, most, least)
		}
	}
	slices.Sort(all)
	if m := all[100]; m > 1.05 {
		t.Errorf("the median of max/mean is %.3f", m)
	}
	for n, bar := range map[int]float64{50: 1.25, 100: 1.35} {
		for range 5 {
			if most, _ := sample(n, 20_000); most > bar {
				t.Errorf("%d members: the fullest has %.3f of the mean", n, most)
			}
		}
	}
	members := names("node-", 1, 10)
	if most, _ := extremes(count(t, ring.New(members), names("vm-", 0, 99_999)), members, 100_000); most > 1.03 {
		t.Errorf("node-1…node-10: the fullest has %.4f of the mean", most)
	}
}

func goldens(t *testing.T) {
	for s, want := range map[string]uint64{
		"": 0xf52a15e9a9b5e89b, "a": 0x02c0bdbf481420f8, "node-1": 0x13950d4ef307e655, "vm-1": 0x83208773d3ddc94b,
	} {
		if got := ring.Hash(s); got != want {
			t.Errorf("h(%q) = %016x, want %016x", s, got, want)
		}
	}
	five := ring.New(names("node-", 1, 5))
	for k, want := range map[string]int{
		"": 3, "a": 1, "vm-1": 5, "vm-2": 3, "vm-3": 3, "vm-4": 1, "vm-5": 2, "vm-6": 5, "vm-7": 3, "host/7": 5,
		"932763162d054c04adaab6ab498c9139": 3, "ключ": 1,
	} {
		if got := owner(t, five, k); got != fmt.Sprint("node-", want) {
			t.Errorf("%q is %s's, want node-%d's", k, got, want)
		}
	}
	for k, want := range map[string][]string{
		"vm-1": {"node-5", "node-1", "node-3", "node-2", "node-4"}, "vm-2": {"node-3", "node-1", "node-4", "node-2", "node-5"},
	} {
		if got := five.Owners(k, 5); !slices.Equal(got, want) {
			t.Errorf("Owners(%q) = %v, want %v", k, got, want)
		}
	}
	heavy := ring.New([]string{"a", "b", "c"}, ring.Weight("b", 2), ring.Weight("c", 4))
	for k, want := range map[string]string{"vm-1": "c", "vm-2": "b", "vm-3": "c", "vm-4": "c"} {
		if got := owner(t, heavy, k); got != want {
			t.Errorf("with weights %q is %s's, want %s's", k, got, want)
		}
	}
	keys := names("vm-", 0, 99_999)
	moved := five.Moved(ring.New(names("node-", 1, 4)), keys...)
	for k := range moved {
		if was := owner(t, five, k); was != "node-5" {
			t.Fatalf("%s was %s's", k, was)
		}
	}
	if len(moved) != 19_932 {
		t.Errorf("%d keys moved, want 19932", len(moved))
	}
	if os.Getenv("GOARCH") == "" && !testing.Short() { // once more as a 32-bit program, where this machine runs one
		cmd := exec.Command("go", "test", "-count=1", "-run", "TestSpec/ring-04", ".")
		cmd.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("on GOARCH=386: %v\n%s", err, out)
		}
	}
}

func identity(t *testing.T) {
	a := ring.New([]string{"x", "y", "z"})
	input := []string{"z", "", "x", "y", "x", ""}
	b := ring.New(input)
	input[0] = "changed"
	if a.Fingerprint() != b.Fingerprint() || len(a.Moved(b, names("k", 1, 1000)...)) != 0 || !slices.Equal(b.Members(), []string{"x", "y", "z"}) {
		t.Error("order, duplicates or empty names matter")
	}
	seen := map[uint64]string{}
	for name, r := range map[string]*ring.Ring{
		"none": nil, "xyz": a, "xy": ring.New([]string{"x", "y"}), "xyzw": ring.New([]string{"x", "y", "z", "w"}),
		"x2yz": ring.New([]string{"x", "y", "z"}, ring.Weight("x", 2)), "xy2z": ring.New([]string{"x", "y", "z"}, ring.Weight("y", 2)),
		"x y": ring.New([]string{"x y", "z"}), "one": ring.New([]string{"xy", "z"}),
	} {
		if other, twice := seen[r.Fingerprint()]; twice {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[r.Fingerprint()] = name
	}
	if ring.New([]string{"x"}, ring.Weight("nobody", 3)).Fingerprint() != ring.New([]string{"x"}).Fingerprint() {
		t.Error("the weight of a stranger counts")
	}
	for _, w := range []int{0, -1, 65} {
		mustPanic(t, func() { ring.Weight("x", w) })
	}
	mustPanic(t, func() { ring.New(names("m", 0, 4096)) })
	if n := ring.New(names("m", 1, 4096)).Len(); n != 4096 {
		t.Errorf("%d members of 4096", n)
	}
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

func empty(t *testing.T) {
	one := ring.New([]string{"solo"})
	for name, r := range map[string]*ring.Ring{"nil": nil, "empty": ring.New(nil), "blank": ring.New([]string{""})} {
		if o, ok := r.Owner("k"); ok || o != "" || r.Owners("k", 3) != nil || r.Len() != 0 || len(r.Members()) != 0 {
			t.Errorf("%s: somebody owns a key", name)
		}
		if r.Fingerprint() != (*ring.Ring)(nil).Fingerprint() {
			t.Errorf("%s: another fingerprint than nil", name)
		}
		if m := one.Moved(r, "k"); len(m) != 1 || m["k"] != "" {
			t.Errorf("%s: Moved to it is %v", name, m)
		}
		if m := r.Moved(one, "k"); m["k"] != "solo" {
			t.Errorf("%s: Moved from it is %v", name, m)
		}
		if m := r.Moved(r, "k"); len(m) != 0 || r.Gained(r, "", "k") != nil {
			t.Errorf("%s: something moved within nothing: %v", name, m)
		}
		if g := r.Gained(one, "solo", "b", "a"); !slices.Equal(g, []string{"a", "b"}) {
			t.Errorf("%s: Gained is %v", name, g)
		}
	}
	for _, k := range names("k", 1, 100) {
		if owner(t, one, k) != "solo" {
			t.Fatal("a single member does not own everything")
		}
	}
	if one.Owners("k", 0) != nil || one.Owners("k", -1) != nil || len(one.Owners("k", 7)) != 1 {
		t.Error("Owners of one")
	}
}

func flaps(t *testing.T) {
	lookups := 100_000
	if os.Getenv("DROVER_LONG") != "" {
		lookups = 1_250_000
	}
	var now atomic.Pointer[ring.Ring]
	with, without := ring.New(names("node-", 1, 3)), ring.New(names("node-", 1, 2))
	now.Store(with)
	stop := make(chan struct{})
	flapped := make(chan struct{})
	go func() {
		defer close(flapped)
		for {
			select {
			case <-stop:
				return
			default:
				now.Store(without)
				now.Store(with)
			}
		}
	}()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range lookups {
				if _, ok := now.Load().Owner(strconv.Itoa(i & 1023)); !ok {
					t.Error("nobody owns a key")
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-flapped
}

func ties(t *testing.T) {
	if o := owner(t, ring.Equal("c", "a", "b"), "k"); o != "a" {
		t.Errorf("of equal scores %s wins", o)
	}
	if o := ring.Equal("c", "a", "b").Owners("k", 3); !slices.Equal(o, []string{"a", "b", "c"}) {
		t.Errorf("of equal scores the order is %v", o)
	}
	if o := owner(t, ring.Equal("c", "b"), "k"); o != "b" {
		t.Errorf("without a %s wins", o)
	}
}

func weights(t *testing.T) {
	members, keys := []string{"a", "b", "c"}, names("vm-", 1, 140_000)
	r := ring.New(members, ring.Weight("b", 2), ring.Weight("c", 4))
	held := count(t, r, keys)
	for i, m := range members {
		want := 20_000 << i
		if off := float64(held[m])/float64(want) - 1; off < -0.02 || off > 0.02 {
			t.Errorf("%s holds %d, want %d ± 2 %%", m, held[m], want)
		}
	}
	raised := ring.New(members, ring.Weight("b", 3), ring.Weight("c", 4))
	for k, to := range r.Moved(raised, keys...) {
		if to != "b" {
			t.Fatalf("%s moved to %s as b was raised", k, to)
		}
	}
	for k := range raised.Moved(r, keys...) {
		if was := owner(t, raised, k); was != "b" {
			t.Fatalf("%s moved from %s as b was lowered", k, was)
		}
	}
}

func owners(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		checkOwners(t, uint8(rnd.UintN(12)), rnd.Uint64(), strconv.FormatUint(rnd.Uint64(), 36))
	}
}

func FuzzOwners(f *testing.F) {
	f.Add(uint8(3), uint64(7), "vm-1")
	f.Fuzz(checkOwners)
}

// checkOwners builds a ring of n members with weights and names drawn from seed.
func checkOwners(t *testing.T, n uint8, seed uint64, key string) {
	n %= 64
	rnd := rand.New(rand.NewPCG(seed, 1))
	var members []string
	var opts []ring.Option
	for range n {
		m := strconv.FormatUint(rnd.Uint64(), 36)
		members = append(members, m)
		opts = append(opts, ring.Weight(m, 1+rnd.IntN(5)))
	}
	for left := members; len(left) > 0; {
		r := ring.New(left, opts...)
		pref := r.Owners(key, len(left)+1)
		three := r.Owners(key, 3)
		sorted := slices.Compact(slices.Sorted(slices.Values(pref)))
		if len(pref) != len(left) || len(sorted) != len(left) || !slices.Equal(three, pref[:min(3, len(pref))]) || owner(t, r, key) != pref[0] {
			t.Fatalf("%v of %v, the first three %v", pref, left, three)
		}
		left = slices.DeleteFunc(slices.Clone(left), func(m string) bool { return m == pref[0] })
		if len(left) > 0 && owner(t, ring.New(left, opts...), key) != pref[1] {
			t.Fatalf("without %s the owner is not %s", pref[0], pref[1])
		}
	}
}

func moved(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	pick := func() (out []string) {
		for _, m := range names("m", 1, 8) {
			if rnd.IntN(2) == 0 {
				out = append(out, m)
			}
		}
		return out
	}
	keys := names("k", 1, 200)
	for range 100 {
		a, b := ring.New(pick()), ring.New(pick())
		want, gains := map[string]string{}, map[string][]string{}
		for _, k := range keys {
			was, _ := a.Owner(k)
			is, _ := b.Owner(k)
			if was != is {
				want[k] = is
				gains[is] = append(gains[is], k)
			}
		}
		got := a.Moved(b, keys...)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("moved %v, want %v", got, want)
		}
		for _, m := range b.Members() {
			g := a.Gained(b, m, append(keys, keys...)...)
			if w := slices.Sorted(slices.Values(gains[m])); !slices.Equal(g, w) {
				t.Fatalf("%s gained %v, want %v", m, g, w)
			}
		}
	}
}

func allocations(t *testing.T) {
	for _, n := range []int{10, 100} {
		r := ring.New(names("node-", 1, n))
		if got := testing.Benchmark(func(b *testing.B) { lookup(b, r) }).AllocsPerOp(); got != 0 {
			t.Errorf("%d members: %d allocations", n, got)
		}
	}
}

func lookup(b *testing.B, r *ring.Ring) {
	b.ReportAllocs()
	keys := names("vm-", 1, 1024)
	for i := 0; b.Loop(); i++ {
		r.Owner(keys[i&1023])
	}
}

// BenchmarkP22Owner: at most 60 ns with 10 members, 200 ns with 100, no allocations (ring-12).
func BenchmarkP22Owner(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { lookup(b, ring.New(names("node-", 1, n))) })
	}
}
