package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

// bindOne dispatches a command with one field of type T tagged tag and gives what was bound.
func bindOne[C any](t *testing.T, params map[string]string) (C, error) {
	t.Helper()
	var r dispatch.Registry
	dispatch.Sync(&r, "c", func(ctx context.Context, c C) (C, error) { return c, nil })
	out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: params})
	if err != nil {
		var zero C
		return zero, err
	}
	return out.(C), nil
}

// V is a command with the one parameter v.
type (
	vString struct {
		V string `param:"v"`
	}
	vBool struct {
		V bool `param:"v"`
	}
	vInt struct {
		V int8 `param:"v"`
	}
	vUint struct {
		V uint16 `param:"v"`
	}
	vFloat struct {
		V float64 `param:"v"`
	}
	vTime struct {
		V time.Time `param:"v"`
	}
	vDate struct {
		V time.Time `param:"v,layout=date"`
	}
	vDateTime struct {
		V time.Time `param:"v,layout=datetime,endof"`
	}
	vDuration struct {
		V time.Duration `param:"v"`
	}
	vUUID struct {
		V dispatch.UUID `param:"v"`
	}
	vMinusOne struct {
		V dispatch.UUID `param:"v,minusone"`
	}
	vHost struct {
		V dispatch.Host `param:"v"`
	}
	vInts struct {
		V []int `param:"v"`
	}
	vBytes struct {
		V []byte `param:"v"`
	}
	vText struct {
		V level `param:"v"`
	}
)

type level int

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return errors.New("low or high")
	}
	return nil
}

type bindCase struct {
	name string
	bind func(t *testing.T, text string) (any, error)
	good map[string]any
	bad  map[string]string // text to reason
}

func binder[C any](t *testing.T, text string) (any, error) {
	c, err := bindOne[C](t, map[string]string{"v": text})
	return reflect.ValueOf(c).Field(0).Interface(), err
}

func utc(y, m, d, h, min, s int) time.Time {
	return time.Date(y, time.Month(m), d, h, min, s, 0, time.UTC)
}

const someID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"

var bindCases = []bindCase{
	{"string", binder[vString], map[string]any{"": "", "a b": "a b", strings.Repeat("x", 255): strings.Repeat("x", 255)},
		map[string]string{strings.Repeat("x", 256): "TooLong", "a\x07b": "BadText", "\xff": "BadText"}},
	{"bool", binder[vBool], map[string]any{"TRUE": true, "1": true, "no": false}, map[string]string{"2": "BadType", "on": "BadType", " true": "BadType"}},
	{"int8", binder[vInt], map[string]any{"-128": int8(-128), "+7": int8(7), "127": int8(127), "": int8(0)},
		map[string]string{"128": "OutOfRange", "1.5": "BadType", "0x1": "BadType", "1e3": "BadType", "12a": "BadType"}},
	{"uint16", binder[vUint], map[string]any{"0": uint16(0), "65535": uint16(65535), "+1": uint16(1)}, map[string]string{"-1": "BadType", "65536": "OutOfRange", "x": "BadType"}},
	{"float64", binder[vFloat], map[string]any{"1.5": 1.5, "1e3": 1000.0, "-0.25": -0.25}, map[string]string{"NaN": "BadType", "Inf": "BadType", "1,5": "BadType", "0x1p2": "BadType"}},
	{"time", binder[vTime], map[string]any{"2026-01-02T03:04:05Z": utc(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05+0100": utc(2026, 1, 2, 2, 4, 5), "2026-01-02T03:04:05+01:00": utc(2026, 1, 2, 2, 4, 5)},
		map[string]string{"2026-02-30T00:00:00Z": "BadType", "2026-01-02": "BadType", "yesterday": "BadType"}},
	{"date", binder[vDate], map[string]any{"2026-01-02": utc(2026, 1, 2, 0, 0, 0), "2024-02-29": utc(2024, 2, 29, 0, 0, 0), "1999-12-31": utc(1999, 12, 31, 0, 0, 0)},
		map[string]string{"2026-02-30": "BadType", "2026-1-2": "BadType", "2026-01-02T00:00:00Z": "BadType"}},
	{"datetime endof", binder[vDateTime], map[string]any{"2026-01-02": utc(2026, 1, 2, 23, 59, 59), "2026-01-02 03:04:05": utc(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z": utc(2026, 1, 2, 3, 4, 5)},
		map[string]string{"2026-13-01": "BadType", "03:04:05": "BadType", "x": "BadType"}},
	{"duration", binder[vDuration], map[string]any{"90s": 90 * time.Second, "90": 90 * time.Second, "1h30m": 90 * time.Minute}, map[string]string{"-1s": "OutOfRange", "x": "BadType", "99999999999999999999": "BadType"}},
	{"uuid", binder[vUUID], map[string]any{someID: dispatch.UUID(someID), strings.ToUpper(someID): dispatch.UUID(someID), "": dispatch.UUID("")},
		map[string]string{"42": "BadType", "-1": "BadType", someID + "0": "BadType", strings.ReplaceAll(someID, "-", "_"): "BadType"}},
	{"uuid minusone", binder[vMinusOne], map[string]any{"-1": dispatch.UUID("-1"), someID: dispatch.UUID(someID), "": dispatch.UUID("")}, map[string]string{"-2": "BadType", "1": "BadType", "--": "BadType"}},
	{"list", binder[vInts], map[string]any{"1, 2,3": []int{1, 2, 3}, "": []int(nil), "7": []int{7}}, map[string]string{"1,x,3": "BadType", "1,,3": "BadType", strings.Repeat("1,", 1000) + "1": "TooLong"}},
	{"bytes", binder[vBytes], map[string]any{"aGk=": []byte("hi"), "-_8": []byte{0xfb, 0xff}, "+/8=": []byte{0xfb, 0xff}}, map[string]string{"a": "BadType", "!!!!": "BadType", "aGk=x": "BadType"}},
	{"text unmarshaler", binder[vText], map[string]any{"low": level(1), "high": level(2)}, map[string]string{"mid": "BadType", "LOW": "BadType", "": "BadType"}},
}

func TestBind(t *testing.T) {
	for _, c := range bindCases {
		t.Run("dispatch-04 "+c.name, func(t *testing.T) {
			for text, want := range c.good {
				got, err := c.bind(t, text)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%.40q: got %v, %v; want %v", text, got, err, want)
				}
			}
			for text, reason := range c.bad {
				_, err := c.bind(t, text)
				wantField(t, err, "v", reason)
			}
		})
	}
}

// wantField checks the first field error of err.
func wantField(t *testing.T, err error, field, reason string) {
	t.Helper()
	var fe *dispatch.FieldError
	if !errors.As(err, &fe) || !errors.Is(err, dispatch.ErrInvalid) && dispatch.CodeOf(err) != dispatch.NotFound {
		t.Errorf("want a field error, got %v", err)
		return
	}
	if !strings.HasPrefix(fe.Field, field) || fe.Reason != reason {
		t.Errorf("got %s %s, want %s %s", fe.Field, fe.Reason, field, reason)
	}
}

func TestHostNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "web-1": true, strings.Repeat("a", 63): true,
		"1web": false, "-web": false, "web-": false, strings.Repeat("a", 64): false, "a.b": false, "a_b": false, "é": false,
	} {
		t.Run("dispatch-05 "+name, func(t *testing.T) {
			_, err := bindOne[vHost](t, map[string]string{"v": name})
			if ok && err != nil {
				t.Error(err)
			} else if !ok {
				wantField(t, err, "v", dispatch.NoMatch)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	var r dispatch.Registry
	r.Entities = func(ctx context.Context, typ string, ids []string) (map[string]dispatch.Entity, error) {
		return map[string]dispatch.Entity{}, nil
	}
	dispatch.Sync(&r, "c", func(ctx context.Context, c embedded) (embedded, error) { return c, nil })
	call := func(kv ...string) (any, error) {
		params := map[string]string{"name": "x"}
		for i := 0; i < len(kv); i += 2 {
			params[kv[i]] = kv[i+1]
		}
		return r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: params})
	}
	t.Run("dispatch-06 field and reason", func(t *testing.T) {
		_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c"})
		wantField(t, err, "name", dispatch.Missing)
		_, err = call("fresh", strings.Repeat("x", 256))
		wantField(t, err, "fresh", dispatch.TooLong)
		_, err = call("vm", someID)
		wantField(t, err, "vm", dispatch.NoSuchEntity)
		if dispatch.CodeOf(err) != dispatch.NotFound {
			t.Errorf("code %s, want not-found", dispatch.CodeOf(err))
		}
		_, err = call("vm", "-1")
		wantField(t, err, "vm", dispatch.BadType)
		if out, err := call("ptr", "", "page", ""); err != nil || out.(embedded).Ptr != nil {
			t.Errorf("a blank number is absent: %v", err)
		}
	})
	t.Run("dispatch-15 tags", func(t *testing.T) {
		for _, bad := range [][3]string{
			{"small", "0", dispatch.OutOfRange}, {"small", "10", dispatch.OutOfRange}, {"color", "blue", dispatch.NotOneOf},
			{"code", "abc", dispatch.NoMatch}, {"pin", "123", dispatch.TooShort}, {"level", "mid", dispatch.BadType}, {"page", "x", dispatch.BadType},
		} {
			_, err := call(bad[0], bad[1])
			wantField(t, err, bad[0], bad[2])
			if bad[0] == "pin" && strings.Contains(fmt.Sprintf("%v %+v", err, err), "123") {
				t.Errorf("the secret is in the error: %v", err)
			}
		}
		out, err := call("OLD", "o", "ptr", "7", "code", "ab,12", "color", "red", "pin", "s3cret", "level", "high", "page", "2")
		if err != nil {
			t.Fatal(err)
		}
		c := out.(embedded)
		if c.Small != 3 || c.Old != "o" || *c.Ptr != 7 || c.Pin.Reveal() != "s3cret" || c.Level != 2 || c.Page != 2 {
			t.Errorf("got %+v", c)
		}
		if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Pin); strings.Contains(s, "s3cret") {
			t.Errorf("the secret prints: %s", s)
		}
	})
	t.Run("dispatch-09 collected", func(t *testing.T) {
		_, err := call("small", "0", "color", "blue", "code", "x", "level", "mid", "page", "x")
		var e *dispatch.Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		var got []string
		for _, f := range e.Fields {
			got = append(got, f.Field)
		}
		if want := []string{"small", "color", "code", "level", "page"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		type many struct {
			L []struct {
				N int `param:"n"`
			} `param:"l"`
		}
		params := map[string]string{}
		for i := range 20 {
			params[fmt.Sprintf("l[%d].n", i)] = "x"
		}
		if _, err = bindOne[many](t, params); !errors.As(err, &e) || len(e.Fields) != 16 {
			t.Errorf("20 bad fields: %d reported, want 16 (%v)", len(e.Fields), err)
		}
	})
}

// embedded flattens paging.
type embedded struct {
	Name  string          `param:"name,required"`
	Small int             `param:"small,min=1,max=9,default=3"`
	Color string          `param:"color,oneof=red|green"`
	Code  string          `param:"code,pattern=[a-z]{2},[0-9]+"`
	Old   string          `param:"fresh,alias=old"`
	Ptr   *int            `param:"ptr"`
	Pin   dispatch.Secret `param:"pin,min=4"`
	VM    dispatch.UUID   `param:"vm,entity=vm,access=use"`
	Level level           `param:"level"`
	paging
}

type paging struct {
	Page int `param:"page"`
}

type structured struct {
	A []struct {
		B string `param:"b"`
		C int    `param:"c"`
	} `param:"a"`
	M map[string]string `param:"m"`
	S struct {
		X string `param:"x,required"`
	} `param:"s"`
}

func TestUnpack(t *testing.T) {
	t.Run("dispatch-12 indices in order", func(t *testing.T) {
		c, err := bindOne[structured](t, map[string]string{"a[7].b": "late", "A[0].B": "first", "a[7].c": "3", "a[10].b": "last", "s[0].x": "y"})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.A) != 3 || c.A[0].B != "first" || c.A[1].B != "late" || c.A[1].C != 3 || c.A[2].B != "last" || c.S.X != "y" {
			t.Errorf("got %+v", c)
		}
	})
	for _, keys := range [][]string{
		{"a[0[1].b"}, {"a[0]].b"}, {"a]0[.b"}, {"a[0.b"}, {"a0].b"}, {"a[].b"}, {"a[x].b"}, {"a[-1].b"}, {"a[+1].b"}, {"a[10000].b"}, {"a[01].b"},
		{"a[0]"}, {"a[0]b"}, {"a.b[0].c"}, {"a[0]."}, {"[0].b"}, {""}, {"a[0].b[1].c"}, {"a[0].b.c"}, {"a", "a[0].b"}, {"a[0].b", "A[0].B"}, {"ID", "id"},
	} {
		t.Run("dispatch-12 malformed "+strings.Join(keys, " "), func(t *testing.T) {
			params := map[string]string{}
			for i, k := range keys {
				params[k] = fmt.Sprint(i)
			}
			_, err := bindOne[structured](t, params)
			if !errors.Is(err, dispatch.ErrMalformed) || dispatch.CodeOf(err) != dispatch.Malformed {
				t.Fatalf("want malformed, got %v", err)
			}
			if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(strings.SplitN(keys[len(keys)-1], "[", 2)[0])) {
				t.Errorf("the key is not named: %v", err)
			}
		})
	}
	t.Run("dispatch-13 maps in both notations", func(t *testing.T) {
		c, err := bindOne[structured](t, map[string]string{"m[0].key": "a", "m[0].value": "1", "m[1].cpuNumber": "2", "m[1].x": "3", "m[2].key": "k", "s[0].x": "y"})
		want := map[string]string{"a": "1", "cpuNumber": "2", "x": "3", "key": "k"}
		if err != nil || !reflect.DeepEqual(c.M, want) {
			t.Errorf("got %v, %v; want %v", c.M, err, want)
		}
		_, err = bindOne[structured](t, map[string]string{"m[0].key": "a", "m[0].value": "1", "m[1].a": "2", "s[0].x": "y"})
		wantField(t, err, "m[1]", dispatch.Duplicate)
		_, err = bindOne[structured](t, map[string]string{"m": "scalar", "s[0].x": "y"})
		wantField(t, err, "m", dispatch.BadType)
	})
	t.Run("dispatch-13 structs", func(t *testing.T) {
		_, err := bindOne[structured](t, map[string]string{"s[1].x": "y"})
		wantField(t, err, "s", dispatch.Other)
		_, err = bindOne[structured](t, map[string]string{"s[0].y": "y"})
		wantField(t, err, "s[0].x", dispatch.Missing)
	})
	t.Run("dispatch-14 texts and sizes", func(t *testing.T) {
		for _, v := range []string{"bell\x07", "nul\x00", "del\x7f", "\xc3\x28"} {
			_, err := bindOne[vString](t, map[string]string{"v": v})
			wantField(t, err, "v", dispatch.BadText)
		}
		if c, err := bindOne[vString](t, map[string]string{"v": "a\nb\r\tc"}); err != nil || c.V != "a\nb\r\tc" {
			t.Errorf("%q, %v", c.V, err)
		}
		params := map[string]string{}
		for i := range 1001 {
			params[fmt.Sprint("p", i)] = ""
		}
		for name, p := range map[string]map[string]string{
			"1001 parameters": params, "257 bytes of name": {strings.Repeat("n", 257): ""}, "256 KiB + 1 of values": {"v": strings.Repeat("x", 256<<10+1)},
		} {
			if _, err := bindOne[vString](t, p); dispatch.CodeOf(err) != dispatch.TooLarge {
				t.Errorf("%s: got %v, want too-large", name, err)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	for _, k := range []string{"a[0].b", "a[0[1].b", "m[3].key", "s[0].x", "", "]["} {
		f.Add(k, "v", "a[1].b", "w")
	}
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		_, err := bindOne[structured](t, map[string]string{k1: v1, k2: v2})
		if err != nil && dispatch.CodeOf(err) == dispatch.Internal {
			t.Errorf("internal error for %q=%q %q=%q: %v", k1, v1, k2, v2, err)
		}
	})
}
