// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.sidecar;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.lockstep.bridge.sidecar.RefVerdict.Code;
import java.io.IOException;
import java.net.ProtocolException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;

/**
 * Reads the bodies of the bridge API (docs/openapi.json). What cannot be read is in doubt, never
 * refused.
 */
final class Answers {
  private static final int OK = 200;

  private Answers() {}

  /** The outcomes of the bridge API. */
  private enum Outcome {
    COMMITTED,
    COMMITTED_NOT_YET_VISIBLE,
    REFUSED,
    UNKNOWN
  }

  /** What a request was answered: one verdict a command, or why its outcome is not known. */
  record Verdicts(List<RefVerdict> each, String doubt) {
    static Verdicts inDoubt(String why) {
      return new Verdicts(List.of(), why);
    }

    boolean isKnown() {
      return doubt == null;
    }

    /** The same, with a code that means another one for this request. */
    Verdicts read(Code as, Code meant) {
      List<RefVerdict> read =
          each.stream()
              .map(
                  it ->
                      it.code() == as
                          ? new RefVerdict(meant, meant == Code.COMMITTED, it.message())
                          : it)
              .toList();
      return new Verdicts(read, doubt);
    }

    /** Whether it also settles the fate of an earlier copy whose answer was lost. */
    boolean isFinal() {
      return isKnown() && each.stream().allMatch(verdict -> verdict.code().isOfTheCommand());
    }
  }

  /** An answer to a batch of so many commands. */
  static Verdicts ofBatch(HttpAnswer answer, int commands) throws ProtocolException {
    return answer.status() == OK ? read(answer, Answers::batch) : error(answer, commands);
  }

  /** An answer to the question what became of a batch. */
  static Verdicts ofLookUp(HttpAnswer answer) throws IOException {
    if (answer.status() == OK) {
      return read(answer, Answers::batch);
    }
    throw error(answer);
  }

  /** An answer to an operation on a project. */
  static Verdicts ofOperation(HttpAnswer answer) throws ProtocolException {
    return answer.status() == OK ? read(answer, body -> verdicts(List.of(body))) : error(answer, 1);
  }

  /**
   * An answer to the creation of a project: "no such state of the project" means that it is there
   * already.
   */
  static Verdicts ofCreation(HttpAnswer answer) throws ProtocolException {
    return ofOperation(answer).read(Code.PROJECT, Code.EXISTS);
  }

  /** An answer to the deletion of a project: "no such project" means that it is done. */
  static Verdicts ofDeletion(HttpAnswer answer) throws ProtocolException {
    return ofOperation(answer).read(Code.PROJECT, Code.COMMITTED);
  }

  /** An answer that is no verdict. */
  static JsonObject plain(HttpAnswer answer) throws IOException {
    if (answer.status() == OK) {
      return read(answer, body -> body);
    }
    throw error(answer);
  }

  /** Something else than a sidecar, or an older one, may answer with a body of another form. */
  private static SidecarError error(HttpAnswer answer) {
    try {
      return read(
          answer,
          body ->
              new SidecarError(
                  answer.status(),
                  body.get("message").getAsString(),
                  body.get("retry").getAsBoolean()));
    } catch (ProtocolException e) {
      return new SidecarError(
          answer.status(), "HTTP " + answer.status() + " " + answer.body(), false);
    }
  }

  /** No verdict, but an error of the whole request: each command has it. */
  private static Verdicts error(HttpAnswer answer, int commands) throws ProtocolException {
    RefVerdict error =
        read(answer, body -> new RefVerdict(code(body), false, body.get("message").getAsString()));
    return new Verdicts(Collections.nCopies(commands, error), null);
  }

  private static Verdicts batch(JsonObject body) {
    List<JsonObject> results = new ArrayList<>();
    body.getAsJsonArray("results").forEach(result -> results.add(result.getAsJsonObject()));
    return verdicts(results);
  }

  private static Verdicts verdicts(List<JsonObject> results) {
    List<RefVerdict> each = new ArrayList<>();
    for (JsonObject result : results) {
      Outcome outcome = Outcome.valueOf(upper(result.get("outcome")));
      switch (outcome) {
        case COMMITTED, COMMITTED_NOT_YET_VISIBLE ->
            each.add(new RefVerdict(Code.COMMITTED, outcome == Outcome.COMMITTED, ""));
        case REFUSED -> each.add(new RefVerdict(code(refusal(result)), false, message(result)));
        case UNKNOWN -> {
          return Verdicts.inDoubt(message(result));
        }
      }
    }
    return new Verdicts(each, null);
  }

  private static JsonObject refusal(JsonObject result) {
    return result.getAsJsonObject("refusal");
  }

  private static String message(JsonObject result) {
    return refusal(result).get("message").getAsString();
  }

  private static Code code(JsonObject refusal) {
    return Code.valueOf(upper(refusal.get("code")));
  }

  private static String upper(JsonElement text) {
    return text.getAsString().toUpperCase(Locale.ROOT);
  }

  /**
   * Gson tells an absent field, a wrong type and a text that is no JSON by exceptions of several
   * kinds.
   */
  private static <T> T read(HttpAnswer answer, Function<JsonObject, T> reader)
      throws ProtocolException {
    try {
      return reader.apply(JsonParser.parseString(answer.body()).getAsJsonObject());
    } catch (RuntimeException e) {
      ProtocolException unreadable =
          new ProtocolException(
              "the sidecar's answer cannot be read, HTTP "
                  + answer.status()
                  + ": "
                  + e.getMessage());
      unreadable.initCause(e);
      throw unreadable;
    }
  }
}
