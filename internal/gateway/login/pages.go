package login

import (
	"embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/auth"
	"slipway.dev/slipway/internal/gateway"
)

// files are the pages and what they load; nothing comes from elsewhere.
//
//go:embed pages
var files embed.FS

// pagePolicy lets a page load and ask this server alone, and run no script but its file.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// page is what a page shows.
type page struct {
	// State chooses the part of the template: setup, done, login, change, in or wait.
	State string
	// Lang is en or zh.
	Lang     string
	Identity string
	// Directory says that people of the organisation's directory can log in.
	Directory bool
	T         words
}

func (h handler) setupPage(w http.ResponseWriter, r *http.Request) error {
	needed, err := h.Setup.Needed(r.Context())
	if err != nil {
		return err
	}
	if !needed {
		return show(w, r, page{State: "done"})
	}
	return show(w, r, page{State: "setup"})
}

func (h handler) loginPage(w http.ResponseWriter, r *http.Request) error {
	who, known := gateway.UserOf(r.Context())
	switch {
	case known && auth.MustChange(who):
		return show(w, r, page{State: "change", Identity: who.GetName()})
	case known:
		return show(w, r, page{State: "in", Identity: who.GetName()})
	}
	needed, err := h.Setup.Needed(r.Context())
	if err != nil {
		return err
	}
	if needed {
		return show(w, r, page{State: "wait"})
	}
	setting, err := auth.LoginSetting(r.Context(), h.Client)
	if err != nil {
		return err
	}
	return show(w, r, page{State: "login", Directory: setting.OIDC != nil})
}

func show(w http.ResponseWriter, r *http.Request, p page) error {
	p.Lang = language(r.Header.Get("Accept-Language"))
	p.T = wordsOf(p.Lang)
	layout, err := template.ParseFS(files, "pages/page.html")
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", p.Lang)
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Vary", "Accept-Language, Cookie")
	return layout.Execute(w, p)
}

func asset(name, kind string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, _ *http.Request) error {
		content, err := files.ReadFile("pages/" + name)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-cache")
		_, err = w.Write(content)
		return err
	}
}

// language gives the language of a browser's list that we have and it likes best; English when it has none of ours.
func language(accepted string) string {
	best, liked := "en", 0.0
	for part := range strings.SplitSeq(accepted, ",") {
		tag, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		weight := 1.0
		if value, ok := strings.CutPrefix(strings.TrimSpace(q), "q="); ok {
			parsed, err := strconv.ParseFloat(value, 64)
			if err != nil {
				continue
			}
			weight = parsed
		}
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if (primary == "en" || primary == "zh") && weight > liked {
			best, liked = primary, weight
		}
	}
	return best
}
