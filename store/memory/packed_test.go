package memory

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

// Whatever field of a row is set, packing keeps it, or the row is not packed.
func TestPackedKeepsAll(t *testing.T) {
	b := &bucket{kind: "k", queue: "q"}
	plain := func() *rec {
		i := &image{Row: job.Row{Job: job.Job{ID: "1", Root: "1", Kind: "k", Queue: "q", State: job.Succeeded}}}
		return &rec{image: i, bucket: b}
	}
	try := func(name string, r *rec) (packed bool) {
		if !r.packable() {
			return false
		}
		var back image
		if r.image.pack().into(&back, b); !reflect.DeepEqual(&back, r.image) {
			t.Errorf("%s: packed %+v\nunpacked %+v", name, *r.image, back)
		}
		return true
	}
	if !try("plain", plain()) {
		t.Fatal("a plain row is not packed")
	}
	var walk func(name string, at func(*rec) reflect.Value, typ reflect.Type)
	walk = func(name string, at func(*rec) reflect.Value, typ reflect.Type) {
		if typ.Kind() == reflect.Struct && typ != reflect.TypeFor[time.Time]() {
			for i := range typ.NumField() {
				if f := typ.Field(i); f.IsExported() {
					walk(name+"."+f.Name, func(r *rec) reflect.Value { return at(r).Field(i) }, f.Type)
				}
			}
			return
		}
		r := plain()
		v := at(r)
		switch v.Interface().(type) {
		case time.Time:
			v.Set(reflect.ValueOf(time.UnixMicro(1_700_000_000_123_456).UTC()))
		case json.RawMessage:
			v.SetBytes([]byte{})
			try(name+" (empty)", r)
			v.SetBytes([]byte("1"))
		case map[string]string:
			v.Set(reflect.ValueOf(map[string]string{"account": "a"}))
		case *job.Error:
			v.Set(reflect.ValueOf(&job.Error{Code: "c"}))
		default:
			switch v.Kind() {
			case reflect.String:
				v.SetString("x")
			case reflect.Int, reflect.Int64:
				v.SetInt(1<<40 + 7)
				try(name+" (large)", r)
				v.SetInt(-7)
			case reflect.Uint16:
				v.SetUint(5)
			case reflect.Bool:
				v.SetBool(true)
			case reflect.Slice:
				v.Set(reflect.MakeSlice(typ, 0, 1))
			default:
				t.Fatalf("%s: a field of type %s", name, typ)
			}
		}
		try(name, r)
	}
	walk("Row", func(r *rec) reflect.Value { return reflect.ValueOf(&r.image.Row).Elem() }, reflect.TypeFor[job.Row]())
	r := plain()
	r.since = time.UnixMicro(5).UTC()
	try("since", r)
	r = plain()
	r.enqueued = time.UnixMicro(5).UTC()
	try("enqueued", r)
	r = plain()
	r.Account, r.Identity = "a", map[string]string{"account": "a"}
	try("account", r)
}
