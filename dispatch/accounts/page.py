"""The pages behind the links in mails. Scanners of mails open links: so opening it does nothing, and a person presses a button.

They hold nothing of the request: the token is read out of the address by the page itself, in the browser.
"""

import json
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'">
<title>E-mail</title>
<style>
body { font: 18px/1.5 system-ui, sans-serif; max-width: 26em; margin: 15vh auto; padding: 0 1em; text-align: center; color: #222; background: #fff }
input { font: inherit; padding: .5em; margin: 0 0 .6em; width: 100%; box-sizing: border-box }
button { font: inherit; padding: .6em 1.6em; border: 0; border-radius: .5em; color: #fff; background: #0b6e4f; cursor: pointer }
button:disabled { background: #999; cursor: default }
</style>
</head>
<body>
<h1 id="title">E-mail</h1>
<p>@FIELD@<button id="go">OK</button></p>
<p id="said" role="status"></p>
<noscript>This page needs JavaScript. / หน้านี้ต้องใช้ JavaScript</noscript>
<script>
"use strict";
const texts = @TEXTS@;
const lang = (navigator.languages || ["th"]).map((l) => l.slice(0, 2)).find((l) => l in texts) || "th";
const [title, verb, done, failed] = texts[lang];
document.documentElement.lang = lang;
document.documentElement.dir = lang === "ar" ? "rtl" : "ltr";
document.title = title;
const go = document.getElementById("go"), said = document.getElementById("said");
document.getElementById("title").textContent = title;
go.textContent = verb;
go.onclick = async () => {
  const input = document.querySelector("input");
  const field = input ? { password: input.value } : {};
  if (input && !input.reportValidity()) return;
  go.disabled = true;
  try {
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept-Language": lang },
      body: JSON.stringify({ token: new URLSearchParams(location.search).get("token") || "", ...field }),
    });
    if (answer.ok) { said.textContent = done; return; }
    said.textContent = ((await answer.json()).error || {}).message || failed;
    go.disabled = !input && answer.status < 500 && answer.status !== 429;
  } catch { said.textContent = failed; go.disabled = false; }
};
</script>
</body>
</html>
"""


def _page(texts: dict[str, list[str]], field: str = "") -> str:
    return _PAGE.replace("@TEXTS@", json.dumps(texts, ensure_ascii=False)).replace("@FIELD@", field)


_DONE: Final = {
    "en": ["Done. You may close this page.", "This did not work. Please try again."],
    "th": ["เรียบร้อยแล้ว ปิดหน้านี้ได้", "ไม่สำเร็จ กรุณาลองใหม่อีกครั้ง"],
    "ar": ["تم. يمكنك إغلاق هذه الصفحة.", "لم ينجح ذلك. حاول مرة أخرى."],
}

VERIFY_PAGE: Final = _page(
    {
        "en": ["Verify your e-mail address", "Verify", *_DONE["en"]],
        "th": ["ยืนยันอีเมลของคุณ", "ยืนยัน", *_DONE["th"]],
        "ar": ["تأكيد بريدك الإلكتروني", "تأكيد", *_DONE["ar"]],
    }
)
RESET_PAGE: Final = _page(
    {
        "en": ["Set a new password", "Save", *_DONE["en"]],
        "th": ["ตั้งรหัสผ่านใหม่", "บันทึก", *_DONE["th"]],
        "ar": ["تعيين كلمة مرور جديدة", "حفظ", *_DONE["ar"]],
    },
    '<input type="password" autocomplete="new-password" minlength="8" maxlength="200" required>',
)
