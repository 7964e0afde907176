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

package io.lockstep.bridge.refresh;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gson.JsonParser;
import org.eclipse.jgit.lib.ObjectId;
import org.junit.jupiter.api.Test;

/** The tasks of the bridge API, as they are written there. */
final class SubjectTest {
  private static final String A = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
  private static final Subject.Span CREATED =
      new Subject.Span(ObjectId.zeroId(), ObjectId.fromString(A));
  private static final String SPAN = ",'old':null,'new':'" + A + "'";
  private static final Project.NameKey P = Project.nameKey("p");

  private static Subject read(String fields) {
    return Subject.read(
        JsonParser.parseString("{'id':1,'own':false,'attempt':1," + fields + "}")
            .getAsJsonObject());
  }

  @Test
  void everyKindIsRead() {
    assertEquals(
        new Subject.OfProject(P, true),
        read("'kind':'project','project':'p','deleted':true,'exists':false"));
    assertEquals(
        new Subject.OfConfig(P, CREATED), read("'kind':'project_config','project':'p'" + SPAN));
    assertEquals(new Subject.OfChanges(P), read("'kind':'changes','project':'p'"));
    assertEquals(
        new Subject.OfChange(P, Change.id(7)), read("'kind':'change','project':'p','number':7"));
    assertEquals(
        new Subject.OfBranch(BranchNameKey.create(P, "refs/heads/x")),
        read("'kind':'branch','project':'p','ref':'refs/heads/x'"));
    assertEquals(new Subject.OfAccount(Account.id(9)), read("'kind':'account','account':9"));
    assertEquals(
        new Subject.OfGroup(AccountGroup.uuid("u"), CREATED),
        read("'kind':'group','group':'u'" + SPAN));
    assertEquals(new Subject.OfGroupNames(CREATED), read("'kind':'group_names'" + SPAN));
    assertEquals(new Subject.OfExternalIds(CREATED), read("'kind':'external_ids'" + SPAN));
  }

  @Test
  void whatIsNotKnownIsNotGuessed() {
    assertThrows(RuntimeException.class, () -> read("'kind':'moon'"));
    assertThrows(RuntimeException.class, () -> read("'kind':'change','project':'p'"));
    assertThrows(RuntimeException.class, () -> read("'kind':'group_names','old':'x','new':null"));
  }
}
