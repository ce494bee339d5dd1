package auth

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"slipway.dev/slipway/api/v1alpha1"
)

const (
	// maxPassword bounds in bytes what is hashed.
	maxPassword = 1024
	// shortestName is how long a name must be for a password that holds it to be refused.
	shortestName = 4
)

// checkPolicy refuses a password that the policy, or common sense, does not allow. It gives a BadRequest error that
// names every broken rule and never the password.
func checkPolicy(policy v1alpha1.PasswordPolicy, password string, u *v1alpha1.User) error {
	var broken []string
	if n := utf8.RuneCountInString(password); n < int(policy.MinLength) {
		broken = append(broken, fmt.Sprintf("it needs %d characters or more", policy.MinLength))
	}
	if len(password) > maxPassword || !utf8.ValidString(password) {
		broken = append(broken, fmt.Sprintf("it may have %d bytes of UTF-8 text at most", maxPassword))
	}
	if classes(password) < int(policy.MinClasses) {
		broken = append(broken, fmt.Sprintf("it needs characters of %d of: lower case, upper case, digits, others", policy.MinClasses))
	}
	if wellKnown(password) {
		broken = append(broken, "it is one that everybody knows")
	}
	if holdsName(password, u) {
		broken = append(broken, "it holds the person's own name")
	}
	if len(broken) == 0 {
		return nil
	}
	return apierrors.NewBadRequest("cannot use this password: " + strings.Join(broken, "; "))
}

func classes(password string) int {
	var lower, upper, digit, other int
	for _, c := range password {
		switch {
		case unicode.IsLower(c):
			lower = 1
		case unicode.IsUpper(c):
			upper = 1
		case unicode.IsDigit(c):
			digit = 1
		default:
			other = 1
		}
	}
	return lower + upper + digit + other
}

// holdsName says that the password is made of a name of the person.
func holdsName(password string, u *v1alpha1.User) bool {
	folded := strings.ToLower(password)
	mail, _, _ := strings.Cut(u.Spec.Email, "@")
	names := append(strings.Fields(u.Spec.DisplayName), u.Name, u.Spec.DisplayName, mail)
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		rest := strings.ReplaceAll(folded, name, "")
		if utf8.RuneCountInString(name) >= shortestName && rest != folded || rest == "" {
			return true
		}
	}
	return false
}

// knownWords are what well-known passwords are made of.
func knownWords() []string {
	return []string{
		"password", "passwort", "passwd", "pass", "motdepasse", "contrasena", "mima", "woaini", "secret", "changeme", "letmein",
		"welcome", "login", "admin", "administrator", "root", "user", "guest", "test", "default", "demo", "master", "server",
		"kubernetes", "kubeoperator", "kubesphere", "rancher", "harbor", "slipway", "calong", "docker", "linux", "ubuntu", "debian",
		"qwertyuiop", "qwertz", "qwerty", "asdfghjkl", "asdfgh", "asdf", "zxcvbnm", "zxcvbn", "zxcv", "qazwsxedc", "qazwsx", "qaz", "wsx", "edc",
		"iloveyou", "monkey", "dragon", "football", "baseball", "sunshine", "princess", "superman", "batman", "trustno", "hello", "abc",
	}
}

// wellKnown says that a password is made of nothing but well-known words, runs such as 12345 and repetitions.
func wellKnown(password string) bool {
	folded := strings.ToLower(password)
	distinct := map[rune]bool{}
	for _, c := range folded {
		distinct[c] = true
	}
	if len(distinct) <= 3 {
		return true
	}
	// What stands for letters is inside; the digits and signs around it are only hung on.
	core := strings.TrimFunc(folded, func(c rune) bool { return !unicode.IsLetter(c) })
	before, after, _ := strings.Cut(folded, core)
	plain := strings.NewReplacer("@", "a", "$", "s", "0", "o", "1", "l", "3", "e", "5", "s", "!", "i").Replace(core)
	return restOf(folded) <= 2 || restOf(before)+restOf(plain)+restOf(after) <= 2
}

// restOf counts the characters that are left when well-known words, runs, years and punctuation are taken out.
func restOf(s string) int {
	s = regexp.MustCompile(`(19|20)\d\d`).ReplaceAllString(s, " ")
	for _, word := range knownWords() {
		s = strings.ReplaceAll(s, word, " ")
	}
	left, run := 0, 0
	var last rune
	for _, c := range s {
		follows := c == last || c == last+1 || c == last-1
		last = c
		switch {
		case !unicode.IsLetter(c) && !unicode.IsDigit(c):
			run = 0
		case follows:
			// The first of a run was counted before it was known to be one.
			if run == 1 {
				left--
			}
			run++
		default:
			run = 1
			left++
		}
	}
	return left
}
