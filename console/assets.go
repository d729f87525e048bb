package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var static embed.FS

//go:embed templates
var templates embed.FS

// asset is an embedded file, packed once.
type asset struct {
	kind          string
	plain, packed []byte
}

// assets are served under a name that changes with their contents, so that browsers may keep them for ever.
type assets struct {
	tag   string
	files map[string]asset
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	sum := sha256.New()
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		_, _ = sum.Write(b) // never fails
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(b); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		a.files[path.Base(name)] = asset{mime.TypeByExtension(path.Ext(name)), b, packed.Bytes()}
		return nil
	})
	a.tag = hex.EncodeToString(sum.Sum(nil))[:12]
	return a, err
}

func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, found := a.files[r.PathValue("file")]
	if !found || r.PathValue("tag") != a.tag {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	b := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		b = f.packed
	}
	_, _ = w.Write(b)
}
